// Package bridge is the publisher-bridge: it hears what the existing backend
// publishes on Redis and stores it in the event log. Any number of bridges run
// at once; each hears everything and publishes everything, and the log keeps
// the first of each event id.
//
//	Redis ──▶ source ──▶ inbox ──▶ pump ──▶ event log, or dead letters
//	          receives,  bounded,   decodes, publishes, retries;
//	          never      oldest     its sequencer keeps the order
//	          waits      dropped    of each orchestrator
//	HTTP, Neolith's lists ─────────▶ settle: the same, and the answer
//
// What Redis publishes while no bridge is subscribed is lost by Redis; the
// bridge counts the gaps it knows of. A bridge that was paused may store an
// older event after newer ones, and after the log's duplicate window a second
// time.
//
// It knows nothing of daemons' connections: routers and edges take it from the
// log on.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/bridge/beats"
	"github.com/neolith/daemon-gateway/internal/bridge/intake"
	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/logbook"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/outage"
	"github.com/neolith/daemon-gateway/internal/redisconn"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing/otlp"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// App is one publisher-bridge. Run is called once; the other methods may be
// called at any time.
type App struct {
	cfg        Config
	lines      *logbook.Book // its log
	base       *slog.Logger  // for what is not package bridge, and names itself
	logger     *slog.Logger
	registry   *prometheus.Registry
	redis      redis.UniversalClient
	nats       *natsconn.Conn
	admin      *admin.Server
	operations *operation.Service
	link       *link
	inbox      *inbox
	pump       *pump
	source     *source
	beats      *beats.Writer
	revoked    *revoked
	metrics    *metrics
	trace      *trace.Recorder
	spans      *otlp.Exporter // nil where none are exported
	log        *eventlog.Log  // set before open is closed
	audit      *audit.Log
	opening    eventlog.Opening
	open       chan struct{}  // closed when the event log is open
	database   *database      // nil where there is none
	book       *addressBook   // nil where there is no database
	intake     *intake.Intake // nil where no events are taken over HTTP
	teardown   lifecycle.Stack
}

// New wires a bridge and binds its admin port. Redis and NATS need not be
// there yet. cfg must be valid.
func New(cfg Config, logger *slog.Logger) (*App, error) {
	a := &App{
		cfg:      cfg,
		registry: prometheus.NewRegistry(),
		link:     newLink(time.Now()),
		inbox:    newInbox(cfg.PublishBuffer, maxBufferBytes),
		open:     make(chan struct{}),
	}
	a.lines, a.base = logbook.Open(logger.With("node", cfg.Node()))
	a.teardown.Push("log levels", func(context.Context) error { a.lines.Close(); return nil })
	a.logger = a.base.With("component", "bridge")
	settings.Starting(a.logger, "publisher-bridge", cfg.features(), "events", cfg.intakeAddr(), "admin", cfg.Admin.AdminAddr,
		"redis", cfg.Redis.Server(), "nats", cfg.NATS.Servers(), "postgres", cfg.Postgres.Server())
	if cfg.Redis.Exposed() {
		a.logger.Warn("the password for Redis travels as plain text, expected rediss://")
	}
	if err := a.connect(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	a.metrics = newMetrics(a.registry)
	a.audit = audit.New(a.base, a.registry)
	a.trace = trace.New(cfg.Trace, string(operation.Bridge), cfg.Node(), a.base, a.registry)
	var err error
	if a.spans, err = otlp.New(cfg.Spans, "publisher-bridge", cfg.Node(), cfg.Trace.TraceSample, a.base, a.registry); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	if a.spans != nil {
		a.trace.Export(a.spans, a.spans.Sampler())
	}
	if err := a.bindDatabase(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	a.pump = newPump(a.inbox, a.whose, a.book, a.nats.Up, int(cfg.Log.MaxEventBytes), a.metrics, a.logger)
	a.pump.partitions, a.pump.connectedDaemons, a.pump.audit = cfg.Log.Partitions, newConnectedDaemons(), a.audit
	a.pump.trace, a.pump.sampler = a.trace, a.spans.Sampler()
	a.source = a.newSource()
	a.beats = beats.New(a.nats.NC, a.redis, a.base, a.registry)
	a.revoked = newRevoked(a.redis, a.nats.JS, a.cfg.RevocationLifetime, a.metrics, a.logger)
	watchLink(a.registry, a.link)
	watchBuffer(a.registry, a.pump.depth, cfg.PublishBuffer)
	if err := a.bind(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// connect sets up the connections, which come about in their own time.
func (a *App) connect() error {
	var err error
	if a.redis, err = redisconn.NewClient(a.cfg.Redis.Config); err != nil {
		return err
	}
	a.teardown.Push("Redis client", func(context.Context) error { return a.redis.Close() })
	// What waits for NATS to come back is woken at once.
	a.nats, err = natsconn.Connect(context.Background(), a.cfg.NATS, "publisher-bridge "+a.cfg.Node(), a.base, a.registry, a.inbox.wake)
	if err != nil {
		return err
	}
	a.teardown.Push("NATS connection", func(context.Context) error { a.nats.Close(); return nil })
	return nil
}

func (a *App) newSource() *source {
	channels, patterns := a.cfg.Redis.subscriptions()
	return &source{
		client: a.redis, channels: channels, patterns: patterns, canary: canary.Channel(a.cfg.Node()), timing: defaultTiming,
		echo: newEcho(), server: a.cfg.Redis.Server(), outage: outage.New("not subscribed on Redis", a.logger),
		push: func(h heard) { a.pump.drops.overflow(a.inbox.push(h)) },
		link: a.link, metrics: a.metrics, logger: a.logger,
	}
}

func (a *App) newCanaries() *canaries {
	return &canaries{
		nc: a.nats.NC, redis: a.redis, channel: a.source.canary, unfit: a.unfitForCanaries, metrics: a.metrics,
		logger: a.logger, faults: rate.Sometimes{First: 1, Interval: time.Minute},
	}
}

// unfitForCanaries says why a canary would do harm now, or cannot arrive.
func (a *App) unfitForCanaries() error {
	switch s := a.link.state(); {
	case !s.connected: // every try would take its time
		return fmt.Errorf("not subscribed on Redis: %s", s.problem)
	case a.source.mute():
		return errors.New("redis forbids the channel of canaries")
	case a.pump.depth() > a.cfg.PublishBuffer/2: // where an event might have to make room
		return errors.New("the buffer is filling")
	}
	return nil
}

func (a *App) bind() (err error) {
	shown, err := a.shown()
	if err != nil {
		return err
	}
	a.admin, err = admin.New(a.cfg.Admin.AdminAddr, shown, a.base)
	if err != nil {
		return err
	}
	a.operations = operation.NewService(a.nats, operation.Node{
		Member: operation.Member{Tier: operation.Bridge, Node: a.cfg.Node()}, Shown: shown,
		Holds: func() map[string]int { return map[string]int{"messages": a.pump.depth()} },
	}, a.base)
	a.operations.HandleTrace(a.trace)
	a.teardown.Push("admin port", func(context.Context) error { return a.admin.Close() })
	if !a.cfg.Intake.Enabled() {
		return nil
	}
	a.intake, err = intake.New(a.cfg.Intake, a.takeIn, a.takesIn, int(a.cfg.Log.MaxEventBytes), a.audit, a.base, a.registry)
	if err != nil {
		return err
	}
	a.teardown.Push("event intake", func(context.Context) error { return a.intake.Close() })
	return nil
}

// takeIn stores an event that came over HTTP.
func (a *App) takeIn(ctx context.Context, e event.Event, body []byte) (intake.Outcome, error) {
	a.pump.notice(e)
	s, err := a.pump.settle(ctx, a.book.address(publishUser(e, body)), false)
	switch {
	case err == nil && s.job.kind == burying:
		err = fmt.Errorf("%w: %s", intake.ErrRefused, s.job.detail)
	case errors.Is(err, eventlog.ErrLogFull):
		err = fmt.Errorf("%w: %w", intake.ErrFull, err)
	}
	if err != nil {
		return intake.Outcome{}, err
	}
	return intake.Outcome{
		Waiting: s.job.kind == keeping, Duplicate: s.ack.Duplicate, Partition: s.ack.Partition, Sequence: s.ack.Sequence,
	}, nil
}

// takesIn reports whether events that come over HTTP can be stored now.
func (a *App) takesIn() bool {
	select {
	case <-a.open:
		return a.nats.Up()
	default:
		return false
	}
}

// whose asks Redis for a daemon's orchestrator.
func (a *App) whose(ctx context.Context, id protocol.DaemonID) (protocol.OrchestratorID, error) {
	return lookupSession(ctx, a.redis, id)
}

// AdminAddr is where the admin port listens.
func (a *App) AdminAddr() net.Addr { return a.admin.Addr() }

// IntakeAddr is where events are taken over HTTP; nil if they are not.
func (a *App) IntakeAddr() net.Addr {
	if a.intake == nil {
		return nil
	}
	return a.intake.Addr()
}

// Close frees what New has taken. Run does it too; it is needed only without.
func (a *App) Close() error { return a.teardown.Stop(context.Background()) }

// Run bridges until ctx ends; then it unsubscribes and publishes what it still
// holds, for at most SHUTDOWN_TIMEOUT. An error says what it could not
// publish, or why it had to end before.
func (a *App) Run(ctx context.Context) error {
	group := lifecycle.NewGroup(ctx)
	published := make(chan struct{})
	// Those who bring messages: the pump works until they have ended.
	var bringing sync.WaitGroup
	bring := func(name string, run func(context.Context) error) {
		bringing.Add(1)
		group.Go(name, func(ctx context.Context) error {
			defer bringing.Done()
			return run(ctx)
		})
	}
	bring("hear Redis", a.source.Run)
	if a.cfg.Redis.RedisDrainLists {
		bring("drain lists", a.whenOpen(newDrainer(a.redis, a.pump, a.cfg.Redis.RedisDrainInterval, a.metrics, a.logger).Run))
	}
	if a.intake != nil {
		bring("event intake", a.intake.Run)
	}
	a.runDatabase(group, bring, published)
	// The log is waited for longer than ctx if there is something to publish.
	opening, stopOpening := context.WithCancel(context.WithoutCancel(ctx))
	defer stopOpening()
	group.Go("inbox", func(context.Context) error {
		bringing.Wait()
		a.inbox.close()
		if a.inbox.len() == 0 {
			stopOpening()
		}
		return nil
	})
	var lost error
	group.Go("publish", func(ctx context.Context) error {
		defer close(published)
		var left int
		left, err := a.publish(ctx, opening)
		lost = a.reportLost(left)
		return err
	})
	group.Go("canaries", a.newCanaries().Run)
	group.Go("heartbeats", a.beats.Run)
	group.Go("connected daemons", func(ctx context.Context) error { return a.pump.connectedDaemons.Run(ctx, a.nats.NC) })
	group.Go("revocations", a.whenOpen(a.revoked.Run))
	group.Go("NATS", a.nats.Run)
	group.Go("operations", outliving(published, a.operations.Run))
	group.Go("traces", outliving(published, a.whenOpen(func(ctx context.Context) error { return a.trace.Run(ctx, a.log) })))
	group.Go("audit", outliving(published, a.audit.Run))
	if a.spans != nil {
		group.Go("spans", outliving(published, a.spans.Run))
	}
	// An operator wants to see what a stop waits for.
	group.Go("admin port", outliving(published, a.admin.Run))
	err := group.Wait()
	return errors.Join(err, lost, a.Close())
}

// publish opens the log and pumps into it. It returns how many messages were
// held when it had to end.
func (a *App) publish(ctx, opening context.Context) (left int, err error) {
	hard, cancel := a.outlive(ctx)
	defer cancel()
	opening, stopOpening := context.WithCancel(opening)
	defer stopOpening()
	defer context.AfterFunc(hard, stopOpening)()
	log, err := eventlog.Open(opening, a.nats.JS, a.cfg.Log, a.base, a.registry,
		a.cfg.Upkeep.Options(a.opening.Option(), eventlog.ReadTraces(a.spans.Sampler()))...)
	if err == nil {
		err = a.openUnresolved(opening, log)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = nil // the stop is the reason, and what is lost is reported
		}
		return a.inbox.len(), err
	}
	a.nats.FoundStreams()
	a.log = log
	close(a.open)
	return a.pump.run(hard, log), nil
}

// outlive returns a context that ends when the stop has taken as long as it
// may, or can achieve nothing more.
func (a *App) outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	// The rest of the time is for closing what is left.
	limit := a.cfg.ShutdownTimeout * 9 / 10
	unregister := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(limit):
		case <-a.nats.Closed():
		case <-hard.Done():
		}
		cancel()
	})
	return hard, func() {
		unregister()
		cancel()
	}
}

// reportLost counts what a stop had to leave behind.
func (a *App) reportLost(left int) error {
	if left == 0 {
		return nil
	}
	a.metrics.dropped.Add(float64(left))
	a.logger.Error("stopped before all messages were published; unless another bridge has them, they are lost", "dropped", left)
	return fmt.Errorf("%d messages were not published", left)
}

// checks are what /readyz answers from.
func (a *App) checks() []admin.Check {
	return append(a.databaseChecks(), []admin.Check{
		{Name: "redis", Ready: a.checkRedis},
		{Name: "nats", Ready: a.nats.Check},
		{Name: "log", Ready: a.opening.Check},
		{Name: "buffer", Ready: a.checkBuffer},
		{Name: "heartbeats", Ready: a.beats.Check, Advisory: true},
		{Name: "revocations", Ready: a.revoked.check, Advisory: true},
	}...)
}

func (a *App) checkRedis() (bool, string) {
	s := a.link.state()
	detail := s.detail(time.Now(), a.source.timing.silent)
	if !s.connected && a.source.outage.Detail() != "" {
		detail += "; " + a.source.outage.Next()
	}
	return s.connected, detail
}

func (a *App) checkBuffer() (bool, string) {
	held := a.pump.depth()
	return held < a.cfg.PublishBuffer, fmt.Sprintf("%d of %d messages held", held, a.cfg.PublishBuffer)
}
