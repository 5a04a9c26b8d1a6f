// Package intake takes events over HTTP, for backends without a NATS client:
//
//	POST /v1/events ── key ── room ── JSON ── each event valid? ──▶ store, in order for each orchestrator
//	                  401    429     400          │ no                    │
//	                                              └──────▶ results ◀──────┘
//
// An event is answered for when the log has it. A request may be sent again as
// it was: what is stored already is found by its id and reported as duplicate.
// Nothing is kept here, so a crash loses only answers.
package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/certificate"
	"github.com/neolith/daemon-gateway/internal/reread"
	"github.com/neolith/daemon-gateway/internal/rescue"
	"github.com/neolith/daemon-gateway/internal/share"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Config is the settings of the intake.
type Config struct {
	HTTPAddr    string `name:"http-addr" help:"Address at which events are taken over HTTP (POST /v1/events). By TLS with INTAKE_TLS_CERT_FILE, else let a proxy in front speak it." default:":8081" group:"Event intake"`
	APIKeysFile string `name:"api-keys-file" help:"File of the API keys that may publish over HTTP, a line for each: a name, the hexadecimal SHA-256 of the key and, where it is not to be for all, the ids of the orchestrators that it may publish for, as the events name them. Read again when it changes. Unset: no intake." group:"Event intake"`

	TLS    certificate.Config `embed:"" prefix:"intake-" group:"Event intake"`
	Access access.Config      `embed:"" prefix:"intake-" group:"Event intake"`
}

// settingsPrefix begins the names of the settings of TLS and Access.
const settingsPrefix = "INTAKE_"

// Enabled reports whether there is an intake at all.
func (c Config) Enabled() bool { return c.APIKeysFile != "" }

// Validate reports an address that cannot be listened on, and keys that cannot
// be used.
func (c Config) Validate(report func(setting, problem string)) {
	if !c.Enabled() {
		return
	}
	_, port, err := net.SplitHostPort(c.HTTPAddr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		report("HTTP_ADDR", "expected an address such as :8081 or 127.0.0.1:8081")
	}
	if err := checkKeys(c.APIKeysFile); err != nil {
		report("API_KEYS_FILE", err.Error())
	}
	c.TLS.Check(settingsPrefix, report)
	c.Access.Check(settingsPrefix, report)
}

// Outcome is what has become of an event that was stored.
type Outcome struct {
	// Duplicate: it was there already.
	Duplicate bool
	// Waiting: nobody knows its addressee yet. It is kept, and published when
	// somebody does. Where it stands in the log is not known then.
	Waiting   bool
	Partition event.Partition
	Sequence  uint64
}

// ErrRefused means that an event can never be stored, however often it is sent.
var ErrRefused = errors.New("the event log does not take it")

// ErrFull means that an event is not stored, and cannot be until the log has room.
var ErrFull = errors.New("the event log is full")

// Store keeps a valid event and returns when it is kept. body is its JSON. What
// fails with another error than ErrRefused may succeed later, or may have been
// stored.
type Store func(ctx context.Context, e event.Event, body []byte) (Outcome, error)

// Bounds of what is taken at once.
const (
	// MaxEvents of one request.
	MaxEvents = 1000
	// maxBodyBytes of one request; maxInFlight of all requests together, of which
	// each key has its share.
	maxBodyBytes = 16 << 20
	maxInFlight  = 64 << 20
	// bodyPiece is for what room is taken first; it grows with what arrives.
	bodyPiece = 64 << 10
	// concurrentStores bounds the unacknowledged publishes of one request.
	concurrentStores = 128
	// storeTimeout is for all events of one request. It ends before the writing
	// of the answer times out.
	storeTimeout = 20 * time.Second
	readTimeout  = 30 * time.Second
	// idleTimeout is longer than clients' pools keep a connection.
	idleTimeout = 2 * time.Minute
	retryAfter  = 2 * time.Second
)

// Intake is the HTTP server. Run is called once.
type Intake struct {
	store    Store
	ready    func() bool
	maxEvent int
	keys     *keyring
	access   *access.Control
	inFlight *share.Pool[string] // bytes of bodies, by key
	metrics  *metrics
	audit    *audit.Log
	panics   *rescue.Notes
	logger   *slog.Logger
	listener net.Listener
	server   *http.Server
}

// New binds the address. ready reports whether the log can be asked now;
// maxEventBytes bounds one event; records are told of what is refused. cfg is
// enabled and valid.
func New(cfg Config, store Store, ready func() bool, maxEventBytes int, records *audit.Log, logger *slog.Logger, reg prometheus.Registerer) (*Intake, error) {
	logger = logger.With("component", "intake")
	keys, err := newKeyring(cfg.APIKeysFile, logger, reg)
	if err != nil {
		return nil, fmt.Errorf("API_KEYS_FILE: %w", err)
	}
	in := &Intake{
		store: store, ready: ready, maxEvent: maxEventBytes, keys: keys,
		inFlight: share.New[string](maxInFlight), metrics: newMetrics(reg), audit: records, logger: logger,
		panics: rescue.New(logger, reg, access.PartRequest, partStore),
	}
	in.access, err = access.New(cfg.Access, settingsPrefix, 0, in.refusedConnection, logger, reg)
	if err != nil {
		return nil, err
	}
	var secure *certificate.Source
	if cfg.TLS.Enabled() {
		if secure, err = certificate.New(cfg.TLS, logger); err != nil {
			return nil, err
		}
		secure.Observe(reg)
	}
	if in.listener, err = net.Listen("tcp", cfg.HTTPAddr); err != nil {
		return nil, fmt.Errorf("listen for events on %s: %w", cfg.HTTPAddr, err)
	}
	in.listener = in.access.Listener(in.listener)
	if secure != nil {
		in.listener = secure.Listener(in.listener)
	}
	in.server = access.NewServer(in.handler(), readTimeout, readTimeout+storeTimeout+10*time.Second, in.panics, logger, slog.LevelDebug)
	in.server.IdleTimeout = idleTimeout
	return in, nil
}

func (in *Intake) refusedConnection(why access.Refusal, from netip.Addr) {
	in.metrics.refused.Of(why).Inc()
	in.audit.Write(audit.ConnectionRefused, string(why), "address", from.String())
}

// Addr is the address that is listened on.
func (in *Intake) Addr() net.Addr { return in.listener.Addr() }

// Close frees the address of an intake that is not run.
func (in *Intake) Close() error {
	if err := in.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run serves until ctx ends, then answers the requests in progress, for as long
// as they may take.
func (in *Intake) Run(ctx context.Context) error {
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		reread.Watch(watching, append(in.access.Files(), in.keys.file)...)
	}()
	defer func() { <-watched }()
	defer stopWatching()

	stopped := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		if in.server.Shutdown(grace) != nil {
			_ = in.server.Close()
		}
	})
	err := in.server.Serve(in.listener)
	if !unregister() {
		<-stopped
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve events on %s: %w", in.Addr(), err)
	}
	return nil
}
