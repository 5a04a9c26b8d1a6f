// Package keyring keeps the keys that access tokens are verified with up to date:
// secrets and public keys from files, read again when they change, and public keys
// from the address of a JSON Web Key Set, read again and again. What cannot be read,
// or not be used, leaves the keys from there as they were, and is told of: in
// /readyz, by a metric, and in the log when it begins and ends.
//
//	files, every 5 s ─────────────────────────────┐
//	JWT_JWKS_URL, every JWT_JWKS_REFRESH, and ─────┴──▶ Keys ──▶ auth.Verifier
//	when a token names a key that is not known
package keyring

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// origin is where keys come from: a closed set of labels.
type origin string

const (
	secretFiles origin = "secret_files"
	keyFiles    origin = "key_files"
	address     origin = "url"
)

var origins = []origin{secretFiles, keyFiles, address}

// Ring holds the keys as they were read last. Its methods may be called at the
// same time; Run once.
type Ring struct {
	cfg    auth.Config
	use    func(*auth.Keys)
	client *http.Client
	failed metric.Counters[origin]
	logger *slog.Logger
	wanted chan struct{} // holds one token when a key was missed

	// Fields so that tests need not wait.
	rereadInterval time.Duration
	leastInterval  time.Duration // between two requests for the set

	mu       sync.Mutex
	secrets  []settings.Secret
	files    []auth.PublicKey
	remote   []auth.PublicKey
	fetched  bool // remote has been read once
	problems map[origin]string
}

const (
	// rereadInterval is how soon a changed file counts. Kubernetes changes mounted
	// files by moving links, so they are simply read.
	rereadInterval = 5 * time.Second
	// leastInterval keeps tokens that name keys that there are not from becoming
	// requests.
	leastInterval = 10 * time.Second
	fetchTimeout  = 10 * time.Second
	firstRetry    = time.Second
	longestRetry  = 30 * time.Second
)

// New reads the files, and gives their keys to use, as it gives all later ones.
// cfg is valid.
func New(cfg auth.Config, use func(*auth.Keys), logger *slog.Logger, reg prometheus.Registerer) (*Ring, error) {
	r := &Ring{
		cfg: cfg, use: use, client: newClient(), logger: logger.With("component", "keyring"),
		wanted: make(chan struct{}, 1), rereadInterval: rereadInterval, leastInterval: leastInterval,
		secrets: cfg.Secrets(), problems: map[origin]string{},
		failed: metric.By(reg, "gateway_edge_token_key_failures_total",
			"Reads of keys of access tokens that failed, by where they come from.", "source", origins...),
	}
	metric.GaugeFunc(reg, "gateway_edge_token_keys_current",
		"1 while all keys of access tokens are as they were when read last, 0 while some cannot be read.", nil,
		func() float64 { return metric.Truth(r.problem() == "") })
	files, err := cfg.FileKeys()
	if err != nil {
		return nil, err
	}
	r.files = files
	if cfg.JWTJWKSURL != "" {
		r.problems[address] = "not read yet"
	}
	r.publish()
	return r, nil
}

// Check tells /readyz: an edge without any key can let nobody in.
func (r *Ring) Check() (ok bool, detail string) {
	r.mu.Lock()
	none := len(r.secrets)+len(r.files)+len(r.remote) == 0
	n := len(r.files) + len(r.remote)
	r.mu.Unlock()
	switch problem := r.problem(); {
	case none:
		return false, problem
	case problem != "":
		return true, problem + "; the last good keys stay in force"
	}
	return true, fmt.Sprintf("%d public keys", n)
}

// problem is what is wrong at the moment, or "".
func (r *Ring) problem() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, o := range origins {
		if problem := r.problems[o]; problem != "" {
			all = append(all, string(o)+": "+problem)
		}
	}
	return strings.Join(all, "; ")
}

// Want says that a token named a key that is not known: it may be new.
func (r *Ring) Want() {
	select {
	case r.wanted <- struct{}{}:
	default:
	}
}

// Run keeps the keys up to date until ctx ends.
func (r *Ring) Run(ctx context.Context) error {
	var fetching sync.WaitGroup
	if r.cfg.JWTJWKSURL != "" {
		fetching.Go(func() { r.runFetch(ctx) })
	}
	lifecycle.Every(ctx, r.rereadInterval, func(time.Time) { r.reread() })
	fetching.Wait()
	return nil
}

// reread reads the files.
func (r *Ring) reread() {
	secrets, err := r.readSecrets()
	r.took(secretFiles, err, func() { r.secrets = secrets })
	files, unread := r.cfg.FileKeys()
	if unread != nil {
		r.took(keyFiles, unread, nil)
		return
	}
	r.took(keyFiles, nil, func() { r.files = files })
}

// readSecrets reads those secrets that come from files.
func (r *Ring) readSecrets() ([]settings.Secret, error) {
	next := r.cfg
	var err error
	if path := r.cfg.Files["DAEMON_JWT_SECRET"]; path != "" {
		if next.DaemonJWTSecret, err = settings.ReadSecret(path); err != nil {
			return nil, err
		}
		if next.DaemonJWTSecret == "" {
			return nil, fmt.Errorf("%s is empty", path)
		}
	}
	if path := r.cfg.Files["DAEMON_JWT_SECRET_PREVIOUS"]; path != "" {
		if next.DaemonJWTSecretPrevious, err = settings.ReadSecrets(path); err != nil {
			return nil, err
		}
	}
	return next.Secrets(), next.CheckSecrets()
}

// took takes what was read, or notes why it could not be, and gives the keys on
// if they are others.
func (r *Ring) took(o origin, err error, take func()) {
	r.mu.Lock()
	before := r.problems[o]
	if err != nil {
		r.problems[o] = err.Error()
	} else {
		delete(r.problems, o)
		take()
	}
	r.mu.Unlock()
	switch {
	case err != nil && err.Error() != before:
		r.logger.Error("keys of access tokens cannot be read, those known stay in force", "source", string(o), "error", err)
	case err == nil && before != "":
		r.logger.Info("keys of access tokens are read again", "source", string(o))
	}
	if err != nil {
		r.failed.Of(o).Inc()
		return
	}
	r.publish()
}

// publish gives the keys on.
func (r *Ring) publish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	pending := r.cfg.JWTJWKSURL != "" && !r.fetched
	r.use(auth.NewKeys(r.secrets, slices.Concat(r.files, r.remote), pending))
}
