package edge

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Connections of one orchestrator that overlap, on edges that do not see each
// other or do: what one passes over is never lost to another (invariant 1).

const tick = 5 * time.Millisecond

// alone makes an edge that no other sees, as in a gossip split.
func alone(cfg *Config) { cfg.Ring.GossipJoin = nil }

func mention(e *event.Event) { e.Type = "vp.mentioned" }

func to(daemon protocol.DaemonID) func(*event.Event) {
	return func(e *event.Event) { e.DaemonID = daemon }
}

// record is the stored cursors of an orchestrator.
func (c *cluster) record(orchestrator string) cursor.Record {
	c.t.Helper()
	token := event.TokenOf(orchestrator)
	kv, err := c.nats.JetStream().KeyValue(c.t.Context(), eventlog.CursorBucket(c.log.Partition(token)))
	require.NoError(c.t, err)
	entry, err := kv.Get(c.t.Context(), string(token))
	require.NoError(c.t, err)
	rec, err := cursor.Decode(entry.Value())
	require.NoError(c.t, err)
	return rec
}

// written waits until nothing is left to be written.
func (n *node) written() {
	n.t.Helper()
	n.eventuallyMetric("gateway_cursor_dirty", "0")
}

// A daemon comes back on another edge wanting more, while its old socket is
// half-open there. The old connection goes on passing over what only the new
// one wants; its last words settled that for the new one.
func TestAnOlderConnectionSettlesNothingForANewerOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first, second := c.edge(), c.edge(alone)
	older := first.attach("orch", "daemon", `["message.*"]`)
	newer := second.attach("orch", "daemon", everything)
	e := c.publish("orch", mention)
	c.forward(first, e, 0)
	require.NoError(t, older.conn.CloseNow())
	require.Eventually(t, func() bool { return first.door.count() == 0 }, testserver.Patience, tick)
	first.written()
	require.NoError(t, newer.conn.CloseNow())
	require.Eventually(t, func() bool { return second.door.count() == 0 }, testserver.Patience, tick)
	second.written()
	second.attach("orch", "daemon", everything).expectEvents(e)
}

// An edge stood still while a daemon connected to it, gave up, and connected to
// another one wanting more. When it goes on, it comes to the connection that
// nobody holds any more, which looks like the newest.
func TestAConnectionThatWasGivenUpDoesNotReplaceALaterOne(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(d *client, at *node){
		"that lives":    func(*client, *node) {},
		"that has left": func(d *client, at *node) { d.leave(at); at.written() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			late, other := c.edge(), c.edge(alone)
			later(other.attach("orch", "daemon", everything), other)
			last := c.record("orch").Daemons["daemon"].Generation
			late.login("orch", "daemon").send("subscribe", `{"eventTypes":["message.*"]}`) // and reads nothing any more
			late.challenges(1)
			require.Equal(t, last, c.record("orch").Daemons["daemon"].Generation)
		})
	}
}

// A link breaks between two of a series of subscribes, and its daemon is about to come
// again. What was heard of it would have it want less than it does.
func TestAConnectionOfWhichThereIsOnlyAPartDoesNotDecide(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	n.attach("orch", "daemon", everything)
	last := c.record("orch").Daemons["daemon"].Generation
	n.login("orch", "daemon").send("subscribe", `{"eventTypes":["message.*"]}`) // and reads nothing any more
	n.challenges(1)
	require.Equal(t, last, c.record("orch").Daemons["daemon"].Generation)
	missed := c.publish("orch", mention)
	c.hint(n, missed)
	n.attach("orch", "daemon", everything).expectEvents(missed)
}

// It was there when it began, on another edge than before; what it subscribes to is
// not known to be all for that.
func TestWhatADaemonAnsweredAtTheBeginningOfASeriesDoesNotShowItsEnd(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n, other := c.edge(), c.edge(alone)
	other.attach("orch", "daemon", everything)
	last := c.record("orch").Daemons["daemon"].Generation
	d := n.login("orch", "daemon")
	n.hub.connections("orch")[0].answered(pingAnswer{start: last})
	d.send("subscribe", `{"eventTypes":["message.*"]}`) // and reads nothing any more
	n.challenges(1)
	require.Equal(t, last, c.record("orch").Daemons["daemon"].Generation)
}

// The edge may stand still once more between the answer and the decision.
func TestWhatADaemonAnsweredBeforeALaterStartShowsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	late, other, third := c.edge(), c.edge(alone), c.edge(alone)
	other.attach("orch", "daemon", everything)
	gone := late.login("orch", "daemon")
	late.hub.connections("orch")[0].answered(pingAnswer{start: c.record("orch").Daemons["daemon"].Generation})
	third.attach("orch", "daemon", everything)
	last := c.record("orch").Daemons["daemon"].Generation
	gone.send("subscribe", `{"eventTypes":["message.*"]}`)
	late.challenges(1)
	require.Equal(t, last, c.record("orch").Daemons["daemon"].Generation)
}

// A slow machine, or one behind a slow link, answers late. It is not cut off, and
// starts as soon as it has answered.
func TestADaemonThatAnswersLateStarts(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n, other := c.edge(), c.edge(alone)
	other.attach("orch", "daemon", everything)
	late := n.login("orch", "daemon")
	late.send("subscribe", `{"eventTypes":`+everything+`}`)
	n.challenges(1)
	// Longer than a connection that stands in another one's way is given.
	n.login("orch-2", "daemon")
	silent := n.hub.connections("orch-2")[0]
	require.False(t, n.prober.probe(t.Context(), probeRequest{silent.token, silent.id}).Alive)
	late.expect(protocol.TypeSubscribed)
	e := c.publish("orch")
	c.forward(n, e, 0)
	late.expectEvents(e)
	n.challenges(0)
}

// challenges waits until so many daemons are waited for that have begun elsewhere.
func (n *node) challenges(count int) {
	n.t.Helper()
	pings := n.door.services.Load().log.pings
	require.Eventually(n.t, func() bool {
		pings.mu.Lock()
		defer pings.mu.Unlock()
		return pings.running == count
	}, testserver.Patience, tick)
}

// No directory tells the old connection's edge, but the cursor does.
func TestANewerConnectionEndsAnOlderOneThatNoEdgeSees(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first, second := c.edge(), c.edge(alone)
	older := first.attach("orch", "daemon", everything)
	second.attach("orch", "daemon", everything)
	older.expectClose(protocol.CloseSessionTerminated)
}

// Invariant 4: nobody waits for an edge that stands still, or takes the place of
// hints to others meanwhile.
func TestAHintAsksForNoAnswer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	still := testserver.Listen(t, c.nc, delivery.CursorSubject(event.TokenOf("still")))
	r := newReloader("self", c.nc, quiet())
	r.tell("still", "orch")
	hint, err := still.NextMsg(testserver.Patience)
	require.NoError(t, err)
	require.JSONEq(t, `{"orchestrator":"orch"}`, string(hint.Data))
	require.Empty(t, hint.Reply)
}

// A start that waited until its connection had ended wrote an entry without
// subscriptions, which anybody might take over.
func TestAStartAfterTheEndOfItsConnectionDecidesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	d := n.attach("orch", "daemon", everything)
	d.leave(n)
	n.written()
	before := c.record("orch")

	starts := n.door.services.Load().log.starts[c.log.Partition("orch")]
	release := make(chan struct{})
	for range starts.most {
		starts.submit(t, func(context.Context) { <-release })
	}
	d = n.login("orch", "daemon")
	d.send("subscribe", `{"eventTypes":["*"]}`)
	waiting := func() int {
		starts.mu.Lock()
		defer starts.mu.Unlock()
		return len(starts.waiting)
	}
	require.Eventually(t, func() bool { return waiting() == 1 }, testserver.Patience, tick)
	d.leave(n)
	close(release)
	require.Zero(t, waiting(), "nothing of it stays")
	behind := make(chan struct{})
	starts.submit(t, func(context.Context) { close(behind) })
	<-behind
	require.Equal(t, before, c.record("orch"))
}

// Starts, reads and dead letters of a partition that does not answer take for
// seconds, each.
func TestAPartitionThatDoesNotAnswerLeavesOthersTheirPlaces(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	log := n.door.services.Load().log
	silent := 1 - c.log.Partition("orch")
	release := make(chan struct{})
	defer close(release)
	for _, pool := range []*pool{log.starts[silent], log.reads[silent], log.deadLetters[silent]} {
		for range pool.most {
			pool.submit(t, func(context.Context) { <-release })
		}
	}
	waits := c.publish("orch")
	n.attach("orch", "daemon", everything).expectEvents(waits)
}

// Neolith makes a new daemon id at every login and addresses it, maybe before
// its first subscribe. Another daemon that lives meanwhile passes that over.
func TestWhatNamesADaemonNeverSeenWaitsForIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	lives := n.attach("orch", "lives", everything)
	forAll := c.publish("orch")
	c.forward(n, forAll, 0)
	lives.expectEvents(forAll)
	early := c.publish("orch", to("new"))
	c.forward(n, early, forAll.sequence)
	later := c.publish("orch")
	c.forward(n, later, early.sequence)
	lives.expectEvents(later)
	n.eventuallyMetric(`gateway_edge_events_total{outcome="acked"}`, "2")
	n.written()

	login := n.attach("orch", "new", everything)
	next := c.publish("orch")
	c.hint(n, next)
	login.expectEvents(early, next) // and nothing of what the other had settled
}

// A successor that is sent what names its predecessor may not want it any more:
// then it waits for that one.
func TestWhatASuccessorDeclinesWaitsForItsDaemon(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	n.attach("orch", "daemon", everything).leave(n)
	n.written()
	successor := n.attach("orch", "successor", everything)
	declined := c.publish("orch", mention, to("daemon"))
	c.forward(n, declined, 0)
	require.Equal(t, declined.id, successor.expect(protocol.TypeEvent).text("eventId"))
	successor.send("subscribe", `{"eventTypes":["message.*"]}`)
	successor.send("unsubscribe", `{"eventTypes":`+everything+`}`)
	next := c.publish("orch")
	c.forward(n, next, declined.sequence)
	successor.expectEvents(next)
	n.eventuallyMetric(`gateway_edge_events_total{outcome="acked"}`, "1")
	n.written()
	n.attach("orch", "daemon", everything).expectEvents(declined)
}

// "*" is only what its token allows: a daemon that may see less speaks for none that
// may see more, and passes nothing over for it.
func TestADaemonDoesNotSpeakForOneWhoseTokenAllowsMore(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	n.attach("orch", "wide", everything).leave(n)
	n.written()
	narrow := n.login("orch", "narrow", func(g *auth.Grant) { g.Scopes = []string{"messages:read"} })
	narrow.send("subscribe", `{"eventTypes":`+everything+`}`)
	narrow.expect(protocol.TypeSubscribed)
	call := c.publish("orch", func(e *event.Event) { e.Type = "call.started" })
	c.forward(n, call, 0)
	message := c.publish("orch")
	c.forward(n, message, call.sequence)
	narrow.expectEvents(message)
	n.eventuallyMetric(`gateway_edge_events_total{outcome="acked"}`, "1")
	n.written()
	n.attach("orch", "wide", everything).expectEvents(call, message)
}

// A fresh token allows less, and the next one, before anything was written, all again:
// what was withheld meanwhile waits for whom the daemon spoke for.
func TestADaemonWhoseTokenAllowsLessForAMomentSpeaksForNobody(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	n.attach("orch", "gone", everything).leave(n)
	n.written()
	d := n.attach("orch", "daemon", everything)
	require.Equal(t, []protocol.DaemonID{"gone"}, c.record("orch").Daemons["daemon"].AnswersFor)
	c.nats.Shutdown()
	for _, scopes := range [][]string{{"messages:read"}, nil} {
		d.send("auth", authPayload(t, "orch", "daemon", func(g *auth.Grant) { g.Scopes = scopes }))
		d.expect(protocol.TypeAuthSuccess)
	}
	c.nats.Start()
	n.written()
	require.Contains(t, c.record("orch").Daemons, protocol.DaemonID("gone"))
}

// A daemon that was away for a moment is taken over by a newcomer. When it is
// back, what names it is sent to it alone.
func TestWhoReturnsGetsItsNameBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first, second := c.edge(), c.edge()
	first.attach("orch", "daemon", everything).leave(first)
	first.written()
	newcomer := second.attach("orch", "newcomer", everything)
	require.Equal(t, []protocol.DaemonID{"daemon"}, c.record("orch").Daemons["newcomer"].AnswersFor)
	back := first.attach("orch", "daemon", everything)
	require.Empty(t, c.record("orch").Daemons["newcomer"].AnswersFor)
	c.onlyTo(first, back, second, newcomer)
}

// Edges that do not see each other: the newcomer's edge takes the daemon for
// gone. The daemon's edge hears of it, and puts it back.
func TestADaemonThatLivesIsNotTakenOverForLong(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first, second := c.edge(), c.edge(alone)
	d := first.attach("orch", "daemon", everything)
	newcomer := second.attach("orch", "newcomer", everything)
	require.Eventually(t, func() bool {
		rec := c.record("orch")
		_, there := rec.Daemons["daemon"]
		return there && len(rec.Daemons["newcomer"].AnswersFor) == 0
	}, testserver.Patience, tick)
	c.onlyTo(first, d, second, newcomer)
}

// onlyTo requires that what names the daemon is sent to it, and not to the other,
// as soon as that one's edge has heard.
func (c *cluster) onlyTo(n *node, d *client, elsewhere *node, other *client) {
	c.t.Helper()
	answersForNobody := func() bool {
		for _, x := range elsewhere.hub.connections(event.TokenOf("orch")) {
			x.mu.Lock()
			p := x.session.Progress(x.admittedAt)
			x.mu.Unlock()
			if len(p.Entry.AnswersFor) > 0 {
				return false
			}
		}
		return true
	}
	require.Eventually(c.t, answersForNobody, testserver.Patience, tick)
	addressed, forAll := c.publish("orch", to("daemon")), c.publish("orch")
	for _, at := range []*node{n, elsewhere} {
		c.forward(at, addressed, 0)
		c.forward(at, forAll, addressed.sequence)
	}
	d.expectEvents(addressed, forAll)
	other.expectEvents(forAll)
}
