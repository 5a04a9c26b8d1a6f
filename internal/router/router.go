// Package router is the middle tier: routers consume the event log and forward
// each event to the edges that hold its orchestrator. Each partition is served
// by one router, found by rendezvous hashing over those that are alive; what is
// said and sent is decided by package lane, and this package gives it its
// inputs and carries out its effects.
//
//	event log ─▶ partition (a run: consumer, lane, checkpoint) ─▶ NATS requests ─▶ edges
//	gossip ────▶ placement, new claims, edges that are gone
//
// A router keeps nothing that is not in the log or the gossip. It may die at
// any time: another one continues from the checkpoint, and edges drop what they
// have seen. It never talks to daemons, and nothing it does is needed for an
// event not to be lost, only for it to be quick.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/buildinfo"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/logbook"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/neolith/presence"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing/otlp"
)

// Router is one node of the middle tier. Several may run in one process.
type Router struct {
	cfg      Config
	timing   timing
	book     *logbook.Book
	base     *slog.Logger // for what is not package router, and names itself
	logger   *slog.Logger
	registry *prometheus.Registry
	metrics  *metrics
	audit    *audit.Log
	trace    *trace.Recorder
	spans    *otlp.Exporter // nil where none are exported

	conn       *natsconn.Conn
	ring       *ring.Directory
	admin      *admin.Server
	operations *operation.Service
	placement  *placement
	database   *postgres.DB     // nil where there is none
	presence   *presence.Writer // nil where there is no database
	teardown   lifecycle.Stack
	opening    eventlog.Opening
}

// New binds the admin and gossip addresses and begins to connect to NATS. It
// does not wait for anything. Run must follow, or Close.
func New(cfg Config, logger *slog.Logger) (*Router, error) {
	r := &Router{cfg: cfg, timing: defaultTiming(), registry: prometheus.NewRegistry()}
	r.book, r.base = logbook.Open(logger.With("node", cfg.Node()))
	r.teardown.Push("log levels", func(context.Context) error { r.book.Close(); return nil })
	r.logger = r.base.With("component", "router")
	settings.Starting(r.logger, "router", cfg.features(), "admin", cfg.Admin.AdminAddr, "gossip", cfg.Ring.GossipAddr,
		"nats", cfg.NATS.Servers(), "postgres", cfg.Postgres.Server())
	r.metrics = newMetrics(r.registry)
	r.audit = audit.New(r.base, r.registry)
	r.metrics.partitions.Set(float64(cfg.Log.Partitions))
	r.trace = trace.New(cfg.Trace, string(operation.Router), cfg.Node(), r.base, r.registry)
	var err error
	if r.spans, err = otlp.New(cfg.Spans, "router", cfg.Node(), cfg.Trace.TraceSample, r.base, r.registry); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if r.spans != nil {
		r.trace.Export(r.spans, r.spans.Sampler())
	}
	if err := r.bind(); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Router) bind() (err error) {
	// The connection may be made again before there is a placement to tell.
	made := make(chan struct{})
	defer close(made)
	name := "router " + r.cfg.Node()
	r.conn, err = natsconn.Connect(context.Background(), r.cfg.NATS, name, r.base, r.registry, func() {
		<-made
		if r.placement != nil {
			r.placement.reconnected()
			r.placement.look()
		}
	})
	if err != nil {
		return err
	}
	r.teardown.Push("NATS connection", func(context.Context) error { r.conn.Close(); return nil })
	r.ring, err = ring.New(r.cfg.Ring, ring.TierRouter, r.cfg.Node(), buildinfo.Get().Version, r.base, r.registry)
	if err != nil {
		return err
	}
	r.teardown.Push("gossip", func(context.Context) error { return r.ring.Close() })
	r.placement = newPlacement(r.ring, r.conn.Up)
	r.ring.Watch(&watcher{placement: r.placement, members: r.ring.Members, partitions: r.cfg.Log.Partitions})
	if err := r.bindDatabase(); err != nil {
		return err
	}
	r.hide()
	shown, err := r.shown()
	if err != nil {
		return err
	}
	r.admin, err = admin.New(r.cfg.Admin.AdminAddr, shown, r.base)
	if err != nil {
		return err
	}
	r.operations = r.newOperations(shown)
	r.teardown.Push("admin port", func(context.Context) error { return r.admin.Close() })
	return nil
}

// bindDatabase makes this router a writer of presence, if there is a database.
func (r *Router) bindDatabase() (err error) {
	if !r.cfg.Postgres.Enabled() {
		return nil
	}
	name := "daemon-gateway router " + r.cfg.Node()
	if r.database, err = postgres.Open(r.cfg.Postgres, name, r.base, r.registry); err != nil {
		return err
	}
	r.teardown.Push("PostgreSQL", r.database.Close)
	r.presence = presence.New(r.cfg.Presence, r.database, r.conn.NC, r.ring, r.cfg.Log.Partitions, r.cfg.Node(), r.base, r.registry)
	r.ring.Watch(r.presence)
	return nil
}

// hide keeps partitions from being placed here until this router can serve
// them. There is nobody to be told yet, so it does not wait for that.
func (r *Router) hide() {
	ctx, cancel := context.WithTimeout(context.Background(), r.timing.tick)
	defer cancel()
	_ = r.ring.SetDraining(ctx, true)
}

// Close gives back what New took, for a router that is not run.
func (r *Router) Close() error { return r.teardown.Stop(context.Background()) }

// AdminAddr is where health checks and metrics are served.
func (r *Router) AdminAddr() string { return r.admin.Addr().String() }

// GossipAddr is where other nodes may join this one.
func (r *Router) GossipAddr() string { return r.ring.Self().Address }

// Registry holds the router's metrics.
func (r *Router) Registry() *prometheus.Registry { return r.registry }

// Run routes until ctx ends, then hands over its partitions and leaves the
// cluster, within SHUTDOWN_TIMEOUT. It returns nil after that, and an error if
// it cannot go on, such as natsconn.ErrClosed or eventlog.ErrPartitions.
func (r *Router) Run(ctx context.Context) error {
	// The parts outlive ctx, because handing over needs them all.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group := lifecycle.NewGroup(base)
	defer context.AfterFunc(ctx, func() {
		r.logger.Info("stopping")
		time.AfterFunc(r.cfg.ShutdownTimeout, cancel)
	})()
	group.Go("admin port", r.admin.Run)
	group.Go("gossip", func(base context.Context) error { return r.ring.Run(base, ctx.Done()) })
	group.Go("NATS connection", r.conn.Run)
	group.Go("operations", r.operations.Run)
	group.Go("audit", r.audit.Run)
	if r.spans != nil {
		group.Go("spans", r.spans.Run)
	}
	if r.database != nil {
		group.Go("PostgreSQL", r.database.Run)
	}
	group.Go("routing", func(base context.Context) error {
		defer cancel()
		return r.route(ctx, base, group)
	})
	err := group.Wait()
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return err
}

// route waits for what it needs, then serves partitions until ctx ends.
func (r *Router) route(ctx, base context.Context, group *lifecycle.Group) error {
	starting, cancel := context.WithCancel(base)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	log, err := eventlog.Open(starting, r.conn.JS, r.cfg.Log, r.base, r.registry,
		r.cfg.Upkeep.Options(eventlog.Manage(), r.opening.Option(), eventlog.ReadTraces(r.spans.Sampler()))...)
	if err != nil {
		if starting.Err() != nil {
			return nil
		}
		return err
	}
	r.conn.FoundStreams()
	log.OnEpoch(r.placement.epochChanged)
	group.Go("event log", log.Run)
	group.Go("log audit", eventlog.NewAuditor(log).Run)
	group.Go("traces", func(ctx context.Context) error { return r.trace.Run(ctx, log) })
	group.Go("dead letters", eventlog.NewDeadLetterWatch(log, r.registry).Run)
	if !r.settle(starting) {
		return nil
	}
	requests, err := newRequests(r.conn.NC)
	if err != nil {
		return fmt.Errorf("subscribe to receipts: %w", err)
	}
	defer requests.close()
	group.Go("events of the absent", (&away{
		log: log, holders: r.ring.AppendEdges, owned: r.placement.owned, metrics: r.metrics, logger: r.logger,
	}).run)
	r.logger.Info("routing", "gossip", r.GossipAddr(), "admin", r.AdminAddr())
	defer r.writePresence(base)()
	r.placement.run(ctx, base, &routing{
		cfg: r.cfg, timing: r.timing, log: log, requests: requests,
		holders: r.ring.AppendEdges, trace: r.trace, metrics: r.metrics, logger: r.logger,
	})
	return nil
}

// writePresence begins to write the presence of what is placed here. The
// returned function ends it, and waits until it has.
func (r *Router) writePresence(base context.Context) (stop func()) {
	if r.presence == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(base)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.presence.Run(ctx, r.placement.owned)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// settle waits until the directory knows who holds whom, or has tried.
func (r *Router) settle(ctx context.Context) bool {
	for !r.ring.Settled() {
		if !lifecycle.Sleep(ctx, r.timing.tick) {
			return false
		}
	}
	return true
}

func (r *Router) checks() []admin.Check {
	checks := []admin.Check{
		{Name: "nats", Ready: r.conn.Check},
		{Name: "log", Ready: r.opening.Check},
		{Name: "gossip", Ready: func() (bool, string) {
			detail := fmt.Sprintf("%d routers, %d edges", len(r.ring.Members(ring.TierRouter)), len(r.ring.Members(ring.TierEdge)))
			if outage := r.ring.Outage(); outage != "" {
				detail += "; " + outage
			}
			return r.ring.Settled(), detail
		}},
		{Name: "partitions", Ready: r.placement.check},
	}
	if r.database != nil {
		checks = append(checks, admin.Check{Name: "postgres", Ready: r.database.Check, Advisory: true})
	}
	return checks
}
