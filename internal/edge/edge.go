// Package edge terminates the daemons' WebSockets: it speaks the protocol with
// them, claims their orchestrators in the directory, takes what routers forward
// and reads from the log what is missing.
//
//	          ┌──────────────────────── connection ────────────────────────┐
//	daemon ◀─▶ socket ◀─▶ conversation (what is answered, what is refused)  │
//	          │        ◀─▶ session (what is delivered)                      │
//	          └───▲───────────▲─────────────▲──────────────▲───────────────┘
//	           door        admission      receiver      logSide     wheel
//	           (HTTP)      (directory)    (routers)     (log, cursors)
//
// One Edge is one node; several may run in one process. It is wired by hand in
// New (what needs no NATS) and start (what does).
package edge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/auth/keyring"
	"github.com/neolith/daemon-gateway/internal/buildinfo"
	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/certificate"
	"github.com/neolith/daemon-gateway/internal/edge/handshake"
	"github.com/neolith/daemon-gateway/internal/edge/socket"
	"github.com/neolith/daemon-gateway/internal/edge/wheel"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/logbook"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/neolith/history"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/reread"
	"github.com/neolith/daemon-gateway/internal/rescue"
	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing/otlp"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Edge is one node that daemons connect to. Run is called once; the other
// methods may be called at any time after New.
type Edge struct {
	cfg       Config
	book      *logbook.Book
	base      *slog.Logger // for what is not package edge
	logger    *slog.Logger
	registry  *prometheus.Registry
	metrics   *metrics
	panics    *rescue.Notes
	verifier  *auth.Verifier
	keyring   *keyring.Ring
	audit     *audit.Log
	refusals  *refusals
	gate      *gate
	revoker   *revoker
	directory *ring.Directory
	nats      *natsconn.Conn
	admin     *admin.Server
	listener  net.Listener
	http      *http.Server
	door      *door
	hub       *hub
	wheel     *wheel.Wheel
	admission *admission
	prober    *prober
	shedder   *shedder
	database  *database         // nil where there is none
	registrar *registrar        // nil where there is no database
	history   *history.Recorder // nil where there is no database
	trace     *trace.Recorder
	spans     *otlp.Exporter // nil where none are exported

	// Fields so that tests need not wait, and need not be quick.
	canaryInterval time.Duration // between two calls
	writeTimeout   time.Duration // for what a drain writes, each time

	crew        lifecycle.Crew // runs what connections ask for and wait for
	reconnected chan struct{}  // NATS has come back
	opening     eventlog.Opening
	operations  *operation.Service
	undo        lifecycle.Stack
}

// New wires an edge and binds its addresses: daemons, admin and gossip. It
// needs no other server: whatever is away, Run waits for. On an error
// everything is undone.
func New(cfg Config, logger *slog.Logger) (_ *Edge, err error) {
	book, logger := logbook.Open(logger.With("node", cfg.Node()))
	e := &Edge{
		cfg: cfg, book: book, base: logger, logger: logger.With("component", "edge"),
		registry: prometheus.NewRegistry(), reconnected: make(chan struct{}, 1), canaryInterval: canary.Interval,
		writeTimeout: stepTimeout,
	}
	e.undo.Push("log levels", func(context.Context) error { e.book.Close(); return nil })
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	settings.Starting(e.logger, "edge", cfg.features(), "daemons", cfg.Listen.address(), "admin", cfg.Admin.AdminAddr,
		"gossip", cfg.Ring.GossipAddr, "nats", cfg.NATS.Servers(), "postgres", cfg.Database.Postgres.Server())
	e.metrics = newMetrics(e.registry)
	e.panics = rescue.New(e.logger, e.registry, parts...)
	e.audit = audit.New(logger, e.registry)
	e.trace = trace.New(cfg.Trace, string(operation.Edge), cfg.Node(), logger, e.registry)
	if e.spans, err = otlp.New(cfg.Spans, "edge", cfg.Node(), cfg.Trace.TraceSample, logger, e.registry); err != nil {
		return nil, err
	}
	if e.spans != nil {
		e.trace.Export(e.spans, e.spans.Sampler())
	}
	if e.verifier, err = auth.New(cfg.Auth); err != nil {
		return nil, err
	}
	if e.keyring, err = keyring.New(cfg.Auth, e.verifier.Use, logger, e.registry); err != nil {
		return nil, err
	}
	if err := e.listen(); err != nil {
		return nil, err
	}
	if err := e.join(); err != nil {
		return nil, err
	}
	if err := e.bindDatabase(); err != nil {
		return nil, err
	}
	if err := e.wire(); err != nil {
		return nil, err
	}
	checks := append(e.databaseChecks(), []admin.Check{
		{Name: "nats", Ready: e.nats.Check},
		{Name: "log", Ready: e.opening.Check},
		{Name: "directory", Ready: e.directoryReady},
		{Name: "edge", Ready: e.serving},
		{Name: "keys", Ready: e.keyring.Check},
		{Name: "revocations", Ready: e.gate.revoked.Check, Advisory: true},
	}...)
	shown, err := e.shown(checks)
	if err != nil {
		return nil, err
	}
	if e.admin, err = admin.New(cfg.Admin.AdminAddr, shown, logger); err != nil {
		return nil, err
	}
	e.undo.Push("admin", func(context.Context) error { return e.admin.Close() })
	e.operations = e.newOperations(shown)
	return e, nil
}

// Close gives back what New has bound, if Run is never called.
func (e *Edge) Close() error { return e.undo.Stop(context.Background()) }

// listen binds the address for daemons.
func (e *Edge) listen() error {
	var secure *certificate.Source
	var err error
	if e.cfg.Listen.TLS.Enabled() {
		if secure, err = certificate.New(e.cfg.Listen.TLS, e.logger); err != nil {
			return err
		}
		secure.Observe(e.registry)
	}
	if e.door, err = newDoor(&e.cfg, &e.crew, e.metrics, e.audit, e.panics, e.logger); err != nil {
		return err
	}
	if e.listener, err = socket.Listen(context.Background(), e.cfg.Listen.address()); err != nil {
		return fmt.Errorf("listen for daemons on %s: %w", e.cfg.Listen.address(), err)
	}
	e.listener = e.door.access.Listener(e.listener)
	if secure != nil {
		e.listener = secure.Listener(e.listener)
	}
	e.http = access.NewServer(e.door.handler(), readTimeout, writeTimeout, e.panics, e.logger, slog.LevelDebug)
	e.listener = handshake.New(e.listener, e.http, &e.crew, e.cfg.Listen.WSPath, protocol.PathAlias)
	e.undo.Push("crew", func(context.Context) error { e.crew.Dismiss(); return nil })
	e.undo.Push("daemon address", func(context.Context) error {
		if err := e.listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

// join binds the gossip address and begins to connect to NATS.
func (e *Edge) join() (err error) {
	node := e.cfg.Node()
	if e.directory, err = ring.New(e.cfg.Ring, ring.TierEdge, node, buildinfo.Get().Version, e.base, e.registry); err != nil {
		return err
	}
	e.undo.Push("directory", func(context.Context) error { return e.directory.Close() })
	e.nats, err = natsconn.Connect(context.Background(), e.cfg.NATS, "edge "+node, e.base, e.registry, func() {
		select {
		case e.reconnected <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	e.undo.Push("nats", func(context.Context) error { e.nats.Close(); return nil })
	return nil
}

// wire makes what can be made without the log and without NATS.
func (e *Edge) wire() error {
	talk := e.cfg.conversation(e.verifier)
	e.hub = newHub(e.cfg.Log.Partitions, talk.Rates)
	e.wheel = wheel.New(time.Now())
	e.prober = newProber(e.directory.Self().Name, e.nats.NC, e.hub, e.metrics, e.logger)
	e.refusals = &refusals{metrics: e.metrics, audit: e.audit, wantKeys: e.keyring.Want}
	e.revoker = &revoker{
		connections: e.door.connections, changed: make(chan struct{}, 1), metrics: e.metrics, logger: e.logger,
	}
	if e.registrar != nil {
		e.registrar.refusals, e.registrar.revoker = e.refusals, e.revoker
	}
	e.gate = &gate{Verifier: e.verifier, revoked: revocation.NewList(e.nats.JS, e.revoker.note, e.audit, e.base)}
	e.gate.revoked.Observe(e.registry)
	e.revoker.gate = e.gate
	if path := e.cfg.Listen.OriginsFile; path != "" {
		var err error
		if e.gate.origins, err = access.NewOrigins(originsSetting, path, e.revoker.note, e.logger, e.registry); err != nil {
			return err
		}
	}
	e.admission = &admission{
		refusals: e.refusals, gate: e.gate, revoker: e.revoker, registrar: e.registrar, directory: e.directory, hub: e.hub, prober: e.prober, limit: e.cfg.Sockets.WSMaxConnectionsPerVP,
		metrics: e.metrics, panics: e.panics, logger: e.logger, seed: maphash.MakeSeed(),
	}
	e.directory.Watch(e.admission)
	e.shedder = newShedder(e.cfg.Balance, e.directory, e.door.connections, e.metrics, e.logger)
	return nil
}

// Addr is the address that daemons connect to.
func (e *Edge) Addr() net.Addr { return e.listener.Addr() }

// AdminAddr is the address of /readyz and /metrics.
func (e *Edge) AdminAddr() net.Addr { return e.admin.Addr() }

// Member is this node as the directory knows it; its Address is the one that
// others join.
func (e *Edge) Member() ring.Member { return e.directory.Self() }

func (e *Edge) directoryReady() (bool, string) {
	if !e.directory.Settled() {
		return false, cmp.Or(e.directory.Outage(), "joining")
	}
	return true, e.directory.Outage()
}

func (e *Edge) serving() (bool, string) {
	switch {
	case e.door.draining.Load():
		return false, "draining"
	case e.door.drained.Load():
		return false, fmt.Sprintf("drained by an operator, until undrained; %d connections", e.door.count())
	case e.door.services.Load() == nil:
		return false, "starting"
	}
	return true, fmt.Sprintf("%d connections", e.door.count())
}

// Run serves until ctx ends, then drains: it returns when every daemon has been
// sent elsewhere and every cursor written, at the latest after
// SHUTDOWN_TIMEOUT. An error means that a part has failed, such as a connection
// to NATS that is closed for good; the process is then to be started again.
func (e *Edge) Run(ctx context.Context) error {
	// The parts outlive ctx by the drain.
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	parts := lifecycle.NewGroup(base)
	parts.Go("admin", e.admin.Run)
	parts.Go("directory", func(base context.Context) error { return e.directory.Run(base, ctx.Done()) })
	parts.Go("nats", e.nats.Run)
	parts.Go("operations", e.operations.Run)
	parts.Go("wheel", e.wheel.Run)
	parts.Go("token keys", e.keyring.Run)
	parts.Go("audit", e.audit.Run)
	if e.spans != nil {
		parts.Go("spans", e.spans.Run)
	}
	e.runDatabase(parts)
	parts.Go("access", e.watchAccess)
	parts.Go("daemons", e.serveHTTP)
	parts.Go("edge", func(partCtx context.Context) error {
		defer stop()
		return e.work(ctx, partCtx)
	})
	err := parts.Wait()
	return errors.Join(err, e.Close())
}

// watchAccess reads the files that say who may connect from where again when they
// change, until ctx ends.
func (e *Edge) watchAccess(ctx context.Context) error {
	files := e.door.access.Files()
	if e.gate.origins != nil {
		files = append(files, e.gate.origins.File())
	}
	reread.Watch(ctx, files...)
	return nil
}

// work opens the log, lets daemons in, and drains when ctx ends. partCtx ends
// when another part has failed.
func (e *Edge) work(ctx, partCtx context.Context) error {
	opening, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(partCtx, cancel)()
	log, err := eventlog.Open(opening, e.nats.JS, e.cfg.Log, e.base, e.registry, e.cfg.Upkeep.Options(e.opening.Option(), eventlog.ReadTraces(e.spans.Sampler()))...)
	if err != nil {
		if opening.Err() != nil {
			return nil // stopped before it began
		}
		return err
	}
	e.nats.FoundStreams()
	n, err := e.start(partCtx, log)
	if err != nil {
		return err
	}
	if !e.open(opening, n, log) {
		return e.drain(ctx, n)
	}
	select {
	case <-ctx.Done():
	case <-n.parts.Context().Done():
	}
	return e.drain(ctx, n)
}

func (e *Edge) serveHTTP(ctx context.Context) error {
	stopped := context.AfterFunc(ctx, func() { _ = e.http.Close() })
	defer stopped()
	if err := e.http.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve daemons on %s: %w", e.Addr(), err)
	}
	return nil
}
