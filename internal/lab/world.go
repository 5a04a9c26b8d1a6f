package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/network"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// Patience bounds what must not take long: starting, becoming ready again, and
// the delivery of what is left.
const Patience = 90 * time.Second

// World is a cluster, the daemons and publishers around it, and what they have
// seen of it. A scenario that needs more embeds it.
type World struct {
	// What a run takes place on, known from the beginning.
	Dir      string // for logs and data
	Binaries cluster.Binaries
	Network  *network.Network // nil: all processes share loopback
	Seed     uint64
	LogLevel string // of the nodes; empty: the scenario's

	// The cluster, from LayOut on.
	*cluster.Cluster

	// What is around it, from Connect on.
	Log    *traffic.Log
	Ledger *ledger.Ledger
	Crowd  *traffic.Crowd
	Feed   *traffic.Feed
	redis  *redis.Client

	began    time.Time
	mu       sync.Mutex
	findings []string
}

// Random returns a source of its own for each part of a run, so that the draws
// of one part do not change another's.
func (w *World) Random(part uint64) *rand.Rand { return rand.New(rand.NewPCG(w.Seed, part)) }

// Open starts a cluster and whatever is around it.
func (w *World) Open(ctx context.Context, cfg cluster.Config) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	if err := w.LayOut(cfg); err != nil {
		return err
	}
	if err := w.Start(ctx); err != nil {
		return err
	}
	return w.Connect()
}

// LayOut makes a cluster that does not run yet, of the world's programs unless cfg
// names others, in its directory and places.
func (w *World) LayOut(cfg cluster.Config) (err error) {
	settings := map[string]string{}
	maps.Copy(settings, cfg.Settings)
	if w.LogLevel != "" {
		settings["LOG_LEVEL"] = w.LogLevel
	}
	if cfg.Binaries == (cluster.Binaries{}) {
		cfg.Binaries = w.Binaries
	}
	cfg.Dir, cfg.Settings, cfg.Place = w.Dir, settings, w.place()
	w.Cluster, err = cluster.New(cfg)
	return err
}

// Connect prepares what is around a cluster whose servers run.
func (w *World) Connect() (err error) {
	if w.Log, err = traffic.OpenLog(w.NATSURL()); err != nil {
		return err
	}
	// A command is never sent twice: that would be another publish.
	w.redis = redis.NewClient(&redis.Options{Addr: w.Redis.Addr, MaxRetries: -1, ContextTimeoutEnabled: true})
	return w.Anew()
}

// Anew ends traffic and forgets all that was seen: a ledger without an entry, a
// crowd of nobody, and a feed that nobody publishes to.
func (w *World) Anew() (err error) {
	w.endTraffic()
	w.Ledger = ledger.New()
	w.Crowd = traffic.NewCrowd(w.Ledger, w.URLs(), cluster.Secret)
	w.Feed, err = traffic.NewFeed(w.Ledger, traffic.Entrance{Redis: w.redis, JetStream: w.Log.JetStream(), Partitions: w.Partitions})
	return err
}

func (w *World) endTraffic() {
	if w.Feed != nil {
		w.Feed.Stop()
	}
	if w.Crowd != nil {
		w.Crowd.Close()
	}
}

// Close ends everything.
func (w *World) Close() {
	w.endTraffic()
	if w.redis != nil {
		_ = w.redis.Close()
	}
	if w.Log != nil {
		w.Log.Close()
	}
	if w.Cluster != nil {
		w.Cluster.Close()
	}
}

// URLs are those of all edges.
func (w *World) URLs() (urls []string) {
	for _, e := range w.Edges {
		urls = append(urls, e.URL)
	}
	return urls
}

// Enter has daemons take seats, the first of each orchestrator first, and waits
// after each of these waves until every edge and router knows of them.
func (w *World) Enter(ctx context.Context, seats ...*traffic.Seat) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	for _, wave := range traffic.Waves(seats) {
		if err := w.Crowd.Enter(ctx, wave...); err != nil {
			return err
		}
		if err := w.AwaitClaims(ctx, w.Crowd.Present()); err != nil {
			return err
		}
	}
	return nil
}

// AwaitClaims waits until all edges and routers agree on how many daemons are
// connected: whoever comes then is seen to take the place of who has left.
func (w *World) AwaitClaims(ctx context.Context, n int) error {
	for _, node := range slices.Concat(w.Routers, w.Edges) {
		if err := node.AwaitMetric(ctx, "gateway_directory_claims", float64(n)); err != nil {
			return err
		}
	}
	return nil
}

// Heal undoes whatever was done to processes and links, and waits until the
// cluster is ready.
func (w *World) Heal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	if w.Network != nil {
		if err := w.Network.MendAll(); err != nil {
			return err
		}
	}
	for _, p := range w.Processes() {
		p.Resume()
	}
	return w.Start(ctx)
}

// lookTimeout bounds one look at the whole log. A consumer that has lost its
// server may stand still, which is the client library's fault and no finding.
const lookTimeout = 20 * time.Second

// Record tells the ledger what the log holds, and the dead letters.
func (w *World) Record(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return w.Log.Record(ctx, w.Ledger, w.Partitions)
}

// Settle waits until the log holds what it must, and everything has come that is
// owed. What is missing when ctx ends, or Patience, is for the judge.
func (w *World) Settle(ctx context.Context, promise ledger.Promise) error {
	bounded, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	err := recordUntil(bounded, w.Record, func() bool {
		return !slices.ContainsFunc(w.Ledger.Check(promise).Violations, ledger.Violation.Missing)
	})
	return errors.Join(ctx.Err(), err)
}

// recordUntil records again and again until it is complete, or ctx ends. It fails
// if recording failed then, but not because the end has cut it off.
func recordUntil(ctx context.Context, record func(context.Context) error, complete func() bool) (failed error) {
	for {
		err := record(ctx)
		if err == nil && complete() {
			return nil
		}
		if ctx.Err() != nil {
			return failed
		}
		failed = err
		traffic.Wait(ctx, time.Second)
	}
}

// Judge holds what was seen to a promise; what is not as it must be is a finding.
func (w *World) Judge(promise ledger.Promise) ledger.Report {
	report := w.Ledger.Check(promise)
	const stories = 5
	for i, v := range report.Violations {
		if i < stories {
			w.Find("%s\n%s", v, w.Story(v))
		} else {
			w.Find("%s", v)
		}
	}
	for _, text := range slices.Concat(w.Crowd.Refused(), w.Feed.Refused()) {
		w.Find("%s", text)
	}
	return report
}

// Find notes something that must not be. A run with findings has failed.
func (w *World) Find(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	first, _, _ := strings.Cut(text, "\n")
	w.Say("FOUND: %s", first)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.findings = append(w.findings, text)
}

// Findings returns all that was found.
func (w *World) Findings() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.findings)
}

// Say tells whoever watches how it goes.
func (w *World) Say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, "%s %6.1fs  %s\n", time.Now().UTC().Format("15:04:05.000"), time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// Began is when the run began.
func (w *World) Began() time.Time { return w.began }
