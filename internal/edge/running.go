package edge

import (
	"context"
	"slices"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/share"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// running is what exists only while daemons are served.
type running struct {
	parts       *lifecycle.Group // of the log side
	log         *logSide
	acks        *acker
	beats       *heartbeat.Sender
	reloads     *reloader
	stopLog     context.CancelFunc
	unsubscribe []func() // from NATS
}

// start wires what needs the log. It is long because it is straight.
func (e *Edge) start(partCtx context.Context, log *eventlog.Log) (*running, error) {
	self := e.directory.Self().Name
	ctx, stop := context.WithCancel(partCtx)
	n := &running{parts: lifecycle.NewGroup(ctx), stopLog: stop}
	n.reloads = newReloader(self, e.nats.NC, e.logger)
	cursors := cursor.NewStore(log, cursor.Peers{Self: self, Tell: n.reloads.tell}, e.base, e.registry)
	n.reloads.cursors = cursors
	n.log = newLogSide(n.parts.Context(), &e.crew, self, log, cursors, e.hub, e.logger, e.alive)

	n.parts.Go("epochs", log.Run)
	n.parts.Go("audit", eventlog.NewAuditor(log).Run)
	n.parts.Go("traces", func(ctx context.Context) error { return e.trace.Run(ctx, log) })
	n.parts.Go("cursors", cursors.Run)
	n.parts.Go("net", func(ctx context.Context) error { return n.log.runNet(ctx, e.cfg.Delivery.NetInterval) })
	n.parts.Go("reconnects", func(ctx context.Context) error { return n.log.runReconnects(ctx, e.reconnected) })

	n.parts.Go("revocations", e.gate.revoked.Run)
	n.parts.Go("revoked connections", e.revoker.Run)

	n.beats = heartbeat.NewSender(e.nats.NC, e.cfg.Sockets.WSHeartbeatInterval.Duration(), e.base)
	n.parts.Go("heartbeats", n.beats.Run)
	canaries := newCaller(e.nats.NC, e.directory, e.canaryInterval, e.metrics, e.logger)
	n.parts.Go("canaries", canaries.Run)
	n.parts.Go("balance", e.shedder.Run)

	alone := &isolation{connected: e.nats.Up, members: e.directory, door: e.door, logger: e.logger}
	n.parts.Go("isolation", alone.Run)

	n.acks = &acker{hub: e.hub, directory: e.directory, log: log, cursors: cursors, alive: e.alive, searches: newSearches(),
		slots: share.NewWithOwn[event.Partition](concurrentRequests, requestsOfEach), metrics: e.metrics, panics: e.panics}
	n.acks.peers = peers[ackRequest, ackAnswer]{
		self: self, nc: e.nats.NC, subject: delivery.AckSubject, answer: n.acks.give, logger: e.logger,
	}
	for _, listen := range []func() (func(), error){
		func() (func(), error) {
			return newReceiver(e.nats.NC, e.hub, canaries, e.trace, e.metrics, e.logger).serve(self)
		},
		func() (func(), error) { return e.prober.peers.serve(n.parts.Context()) },
		func() (func(), error) { return n.acks.peers.serve(n.parts.Context()) },
		func() (func(), error) { return n.reloads.peers.serve(n.parts.Context()) },
	} {
		unsubscribe, err := listen()
		if err != nil {
			e.stopRunning(n)
			return nil, err
		}
		n.unsubscribe = append(n.unsubscribe, unsubscribe)
	}
	return n, nil
}

// open lets daemons in once it is known which of them are revoked. It reports
// whether it did.
func (e *Edge) open(ctx context.Context, n *running, log *eventlog.Log) bool {
	e.opening.Waits("reading what is revoked")
	select {
	case <-e.gate.revoked.Loaded():
	case <-n.parts.Context().Done():
		return false
	case <-ctx.Done():
		return false
	}
	e.opening.Waits("")
	e.door.events.Store(&events{
		cfg: &e.cfg, verifier: e.gate, registrar: e.registrar, hub: e.hub, log: log, acks: n.acks,
		metrics: e.metrics, refusals: e.refusals, logger: e.logger, busy: map[event.Token]int{},
		unread: share.New[event.Token](unreadBytes),
	})
	e.door.services.Store(&services{
		cfg: &e.cfg, talk: e.cfg.conversation(e.gate), hub: e.hub, wheel: e.wheel, log: n.log,
		admission: e.admission, metrics: e.metrics, logger: e.logger, draining: e.door.leaving, seat: e.door.seat, leave: e.door.leave, heartbeats: n.beats,
		history: e.history, trace: e.trace, refusals: e.refusals, panics: e.panics,
	})
	e.logger.Info("serving daemons", "address", e.Addr().String(), "member", e.directory.Self().Name)
	return true
}

// alive returns which edges the directory shows, or nil while it is not known to
// be complete.
func (e *Edge) alive() func(edge string) bool {
	if !e.directory.Settled() {
		return nil
	}
	edges := e.directory.Members(ring.TierEdge)
	return func(edge string) bool {
		return slices.ContainsFunc(edges, func(m ring.Member) bool { return m.Name == edge })
	}
}
