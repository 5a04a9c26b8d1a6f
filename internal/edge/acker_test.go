package edge

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Two edges: what is acknowledged by HTTP on one is acknowledged on the other.
func TestAnAckByHTTPReachesTheConnectionOnAnotherEdge(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	soon := func(cfg *Config) { cfg.Delivery.AckTimeout = 200 * time.Millisecond; cfg.Delivery.MaxDeliveries = 1000 }
	first, second := c.edge(soon), c.edge(soon)
	d := first.attach("orch", "d", everything)
	other := first.attach("orch", "e", everything)
	second.knows("orch", 2)
	e := c.publish("orch")
	c.forward(first, e, 0)
	require.Equal(t, e.id, d.expect(protocol.TypeEvent).text("eventId"))
	require.Equal(t, true, d.expect(protocol.TypeEvent).Payload["redelivered"])
	other.expect(protocol.TypeEvent)

	require.Equal(t, 1, second.acknowledge(as(t, "orch", "d"), e.id, e.id, "unknown"))
	first.eventuallyMetric("gateway_edge_unsettled_events", "1") // of the other daemon
	require.Equal(t, 0, second.acknowledge(as(t, "orch", "d"), e.id))
	require.Equal(t, 1, second.acknowledge(as(t, "orch", "e"), e.id))
	first.eventuallyMetric("gateway_edge_unsettled_events", "0")
	first.eventuallyMetric(`gateway_edge_events_total{outcome="acked"}`, "2")
}

// While the gossip is split, edges do not show one another's connections. What was
// acknowledged on the other side came again and again, and at last was a dead letter.
func TestAnAckByHTTPReachesAConnectionThatTheDirectoryDoesNotShow(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first, second := c.edge(), c.edge(func(cfg *Config) { cfg.Ring.GossipJoin = nil })
	d := first.attach("orch", "d", everything)
	other := first.attach("orch", "e", everything)
	events := []stored{c.publish("orch"), c.publish("orch")}
	c.forward(first, events[0], 0)
	c.forward(first, events[1], events[0].sequence)
	for range events {
		d.expect(protocol.TypeEvent)
		other.expect(protocol.TypeEvent)
	}
	require.Equal(t, 1, second.acknowledge(as(t, "orch", "d"), events[0].id))
	first.eventuallyMetric("gateway_edge_unsettled_events", "3")
	require.Equal(t, 1, second.acknowledge(as(t, "orch", ""), events[1].id))
	first.eventuallyMetric("gateway_edge_unsettled_events", "1")
	require.Empty(t, second.directory.Holdings("orch"))
}

// An edge that is cut off from NATS right after an ack cannot write it down, as
// if it had crashed.
func TestACrashAfterAnAckByHTTPCostsOnlyARepeat(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	proxy := testserver.NATSProxy(t, c.nats)
	first, second := c.edge(func(cfg *Config) { cfg.NATS.NATSURL = []settings.URL{settings.URL(proxy.URL())} }), c.edge()
	d := first.attach("orch", "d", everything)
	second.knows("orch", 1)
	acked, unacked := c.publish("orch"), c.publish("orch")
	c.forward(first, acked, 0)
	c.forward(first, unacked, acked.sequence)
	require.Equal(t, acked.id, d.expect(protocol.TypeEvent).text("eventId"))
	require.Equal(t, unacked.id, d.expect(protocol.TypeEvent).text("eventId"))
	require.Equal(t, 1, second.acknowledge(as(t, "orch", "d"), acked.id))
	proxy.Cut()

	again := second.attach("orch", "d", everything)
	m := again.expect(protocol.TypeEvent)
	if m.text("eventId") == acked.id {
		require.Equal(t, 1, second.acknowledge(as(t, "orch", "d"), acked.id))
		m = again.expect(protocol.TypeEvent)
	}
	require.Equal(t, unacked.id, m.text("eventId"))
	require.Equal(t, 1, second.acknowledge(as(t, "orch", "d"), unacked.id))
	second.eventuallyMetric("gateway_edge_unsettled_events", "0")
	proxy.Heal()
}

func TestWhatWasAcknowledgedByHTTPWhileNobodyWasConnectedDoesNotCome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ before, acks, after string }{
		"a daemon that was here":              {"d", "d", "d"},
		"a daemon that comes for the first":   {"", "d", "d"},
		"another one comes":                   {"", "d", "e"},
		"one was here, another acknowledges":  {"d", "e", "e"},
		"a token that names no daemon":        {"", "", "d"},
		"one was here, and a token of no one": {"d", "", "d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			first, second := c.edge(), c.edge()
			if test.before != "" {
				first.attach("orch", test.before, everything).leave(first)
				second.knows("orch", 0)
			}
			events := []stored{c.publish("orch"), c.publish("orch"), c.publish("orch"), c.publish("orch", withoutAck)}
			require.Equal(t, 3, second.acknowledge(as(t, "orch", test.acks), events[0].id, events[2].id, events[3].id, "unknown"))
			require.Equal(t, 0, second.acknowledge(as(t, "orch", test.acks), events[0].id))
			d := first.attach("orch", test.after, everything)
			d.expectEvents(events[1])
			next := c.publish("orch")
			c.hint(first, next)
			d.expectEvents(next)
			second.eventuallyMetric(`gateway_edge_events_total{outcome="acked"}`, "3")
			require.Len(t, second.list("", as(t, "orch", test.acks)).Events, 5, "listing has nothing to do with acknowledging")
		})
	}
}

func TestAnAckByHTTPOfADaemonThatIsNotSubscribedGoesToItsCursor(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	events := []stored{c.publish("orch"), c.publish("orch")}
	d := n.login("orch", "d")
	require.Equal(t, 1, n.acknowledge(as(t, "orch", "d"), events[0].id))
	d.send("subscribe", `{"eventTypes":["*"]}`)
	d.expect(protocol.TypeSubscribed)
	d.expectEvents(events[1])
}

// A start may have read the cursor before an ack by HTTP was written there, so
// the connection that is starting hears of the ack as well.
func TestAnAckByHTTPBesideAStartCountsThere(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	events := []stored{c.publish("orch"), c.publish("orch")}
	d := n.login("orch", "d")
	starting := n.hub.connections("orch")[0]
	require.Equal(t, ackAnswer{}, starting.acknowledge([]string{events[0].id}), "it is for the cursor")
	d.send("subscribe", `{"eventTypes":["*"]}`)
	d.expect(protocol.TypeSubscribed)
	d.expectEvents(events[1])
}

func TestAnAckByHTTPGoesToTheCursorWhereTheDirectoryIsStale(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first, second := c.edge(), c.edge()
	second.directory.Claim(ring.Claim{Orchestrator: event.TokenOf("orch"), Session: "ghost", Daemon: "d", Generation: 1})
	first.knows("orch", 1)
	events := []stored{c.publish("orch"), c.publish("orch")}
	require.Equal(t, 1, first.acknowledge(as(t, "orch", "d"), events[0].id))
	first.attach("orch", "d", everything).expectEvents(events[1])
}

func TestOnlyEventsMeantForADaemonAreAcknowledgedByIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	theirs := c.publish("orch", func(e *event.Event) { e.DaemonID = "e" })
	others := c.publish("other")
	require.Equal(t, 0, n.acknowledge(as(t, "orch", "d"), theirs.id, others.id))
	n.attach("other", "d", everything).expectEvents(others)
	n.attach("orch", "e", everything).expectEvents(theirs)
}

func TestEveryEventOfAnOrchestratorCanBeAcknowledgedAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	var ids []string
	for range 1000 {
		ids = append(ids, c.publish("orch").id)
	}
	require.Equal(t, 1000, n.acknowledge(as(t, "orch", "d"), ids...))
	d := n.attach("orch", "d", everything)
	next := c.publish("orch")
	c.hint(n, next)
	d.expectEvents(next)
}

// Regression: an ack for a daemon that is not connected read all that its
// orchestrator has, up to 256 MB.
func TestAnAckByHTTPReadsNoMoreThanItNames(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	large := func(e *event.Event) { e.Payload = json.RawMessage(`{"text":"` + strings.Repeat("x", 100<<10) + `"}`) }
	var events []stored
	for range 40 {
		events = append(events, c.publish("orch", large))
	}
	before := n.nats.NC.Stats().InBytes
	require.Equal(t, 1, n.acknowledge(as(t, "orch", "d"), events[20].id))
	require.Less(t, n.nats.NC.Stats().InBytes-before, uint64(1<<20))
}
