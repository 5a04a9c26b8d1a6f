package edge

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func withoutAck(e *event.Event) { e.RequiresAck = false }

// expectEvents reads the events with these ids, in this order, and acknowledges them.
func (c *client) expectEvents(events ...stored) {
	c.t.Helper()
	for _, s := range events {
		require.Equal(c.t, s.id, c.expect(protocol.TypeEvent).text("eventId"))
		c.ack(s)
	}
}

func (c *client) ack(s stored) { c.send("ack", `{"eventIds":["`+s.id+`"]}`) }

// leave disconnects and waits until the edge has written the cursor.
func (c *client) leave(n *node) {
	c.t.Helper()
	require.NoError(c.t, c.conn.Close(websocket.StatusNormalClosure, ""))
	require.Eventually(c.t, func() bool { return n.door.count() == 0 }, testserver.Patience, 5*time.Millisecond)
}

// Invariant 1: whatever the live path loses, the edge reads it from the log.
// Checked by leaving out the raise of the target in session.raise.
func TestWhatTheLivePathDoesNotBringIsReadFromTheLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Delivery.NetInterval = time.Hour }) // which would find all of them first
	waiting := []stored{c.publish("orch"), c.publish("orch", withoutAck)}
	d := n.attach("orch", "daemon", everything)
	d.expectEvents(waiting...)

	lost, seen := c.publish("orch"), c.publish("orch")
	c.forward(n, seen, lost.sequence) // a gap
	d.expectEvents(lost, seen)

	hinted := c.publish("orch")
	c.hint(n, hinted)
	d.expectEvents(hinted)

	c.forward(n, seen, lost.sequence) // late, and known
	last := c.publish("orch")
	c.forward(n, last, hinted.sequence)
	d.expectEvents(last)
	for _, cause := range []string{"attach", "gap", "hint"} {
		require.NotEqual(t, "0", n.metric(`gateway_edge_catchups_total{cause="`+cause+`"}`), cause)
	}
}

// Invariant 1: what nobody mentions is found by the net.
func TestWhatNobodyMentionsIsReadFromTheLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Delivery.NetInterval = 300 * time.Millisecond })
	d := n.attach("orch", "daemon", everything)
	d.expectEvents(c.publish("orch"))
	require.NotEqual(t, "0", n.metric(`gateway_edge_catchups_total{cause="net"}`))
}

// Invariant 3, and the takeover of a cursor by another daemon id.
func TestADaemonContinuesFromTheCursorOnAnotherEdge(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first, second := c.edge(), c.edge()
	d := first.attach("orch", "daemon", everything)
	events := []stored{c.publish("orch"), c.publish("orch"), c.publish("orch")}
	for i, s := range events {
		c.forward(first, s, events[max(0, i-1)].sequence*uint64(min(1, i)))
	}
	for _, s := range events {
		require.Equal(t, s.id, d.expect(protocol.TypeEvent).text("eventId"))
	}
	d.ack(events[0])
	d.ack(events[2])
	first.eventuallyMetric(`gateway_edge_events_total{outcome="acked"}`, "2")
	d.leave(first)

	again := second.login("orch", "daemon")
	again.send("subscribe", `{"eventTypes":["*"]}`)
	require.Equal(t, true, again.expect(protocol.TypeSubscribed).Payload["resumed"])
	repeat := again.expect(protocol.TypeEvent)
	require.Equal(t, events[1].id, repeat.text("eventId"))
	require.Equal(t, true, repeat.Payload["redelivered"])
	again.ack(events[1])
	offline := c.publish("orch")
	c.hint(second, offline)
	again.expectEvents(offline)
	second.eventuallyMetric(`gateway_edge_events_total{outcome="acked"}`, "2")
	again.leave(second)

	another := first.attach("orch", "daemon-2", everything)
	fresh := c.publish("orch")
	c.hint(first, fresh)
	another.expectEvents(fresh) // and nothing of what the other daemon had settled
}

// Invariant 1. On a busy machine the second subscribe of a series may be read
// long after the first; a start in between passed the events of its types.
func TestALateSubscribeOfASeriesMissesNothing(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]string{"same id": "daemon", "new id": "daemon-2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			// A busy machine may be late by more than the second that there is.
			n := c.edge(func(cfg *Config) { cfg.seriesTime = testserver.Patience })
			d := n.login("orch", "daemon")
			d.send("subscribe", `{"eventTypes":["message.*"]}`)
			d.send("subscribe", `{"eventTypes":["vp.*"]}`)
			d.expect(protocol.TypeSubscribed)
			d.leave(n)
			mention := c.publish("orch", func(e *event.Event) { e.Type = "vp.mentioned" })
			message := c.publish("orch")

			again := n.login("orch", id)
			const reads = `gateway_cursor_reads_total{status="ok"}`
			before := n.metric(reads)
			again.send("subscribe", `{"eventTypes":["message.*"]}`)
			require.Eventually(t, func() bool { return n.metric(reads) != before }, testserver.Patience, 5*time.Millisecond, "a start was tried")
			again.send("subscribe", `{"eventTypes":["vp.*"]}`)
			again.expect(protocol.TypeSubscribed)
			again.expectEvents(mention, message)
		})
	}
}

// Reports: dunglas/mercure#586, #704, centrifugal/centrifugo#165, #798,
// centrifugal/centrifuge-js#385.
func TestResumeFromAPosition(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	position := func(s stored) eventlog.Position {
		return eventlog.Position{Partition: s.p, Epoch: c.log.Epoch(s.p), Sequence: s.sequence}
	}
	tests := map[string]struct {
		position func(events []stored) string
		resumed  bool
		first    int // the event that comes first
	}{
		"after the first":  {func(e []stored) string { return position(e[0]).String() }, true, 1},
		"after the second": {func(e []stored) string { return position(e[1]).String() }, true, 2},
		"not a position":   {func([]stored) string { return "rubbish" }, false, 0},
		"beyond the log": {func(e []stored) string {
			p := position(e[0])
			p.Sequence = 1 << 40
			return p.String()
		}, false, 0},
		"of another partition": {func(e []stored) string {
			p := position(e[1])
			p.Partition = 1 - p.Partition
			return p.String()
		}, false, 0},
		"of another epoch": {func(e []stored) string {
			p := position(e[1])
			p.Epoch = eventlog.NewEpoch(time.Now(), 1)
			return p.String()
		}, false, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			events := []stored{c.publish(name), c.publish(name), c.publish(name)}
			d := n.dial()
			p := authPayload(t, name, "daemon")
			d.send("auth", strings.TrimSuffix(p, "}")+fmt.Sprintf(`,"resume":{"position":%q}}`, test.position(events)))
			d.expect(protocol.TypeAuthSuccess)
			d.send("subscribe", `{"eventTypes":["*"]}`)
			require.Equal(t, test.resumed, d.expect(protocol.TypeSubscribed).Payload["resumed"])
			d.expectEvents(events[test.first:]...)
		})
	}
}

func TestChannelsAndAddressees(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	one := n.login("orch", "one")
	one.send("subscribe", `{"eventTypes":["message.*"],"channelIds":["a","b"]}`)
	one.expect(protocol.TypeSubscribed)
	two := n.attach("orch", "two", everything)

	var previous uint64
	publish := func(change func(*event.Event)) stored {
		s := c.publish("orch", withoutAck, change)
		c.forward(n, s, previous)
		previous = s.sequence
		return s
	}
	inA := publish(func(e *event.Event) { e.ChannelID = "a" })
	inC := publish(func(e *event.Event) { e.ChannelID = "c" })
	nowhere := publish(func(*event.Event) {})
	toTwo := publish(func(e *event.Event) { e.ChannelID, e.DaemonID = "a", "two" })
	toOne := publish(func(e *event.Event) { e.ChannelID, e.DaemonID = "b", "one" })
	call := publish(func(e *event.Event) { e.Type = "call.started" })
	for _, s := range []stored{inA, nowhere, toOne} {
		require.Equal(t, s.id, one.expect(protocol.TypeEvent).text("eventId"))
	}
	for _, s := range []stored{inA, inC, nowhere, toTwo, call} {
		require.Equal(t, s.id, two.expect(protocol.TypeEvent).text("eventId"))
	}
}

// Invariant 4: a connection that lags holds a window, and the rest stays in
// the log until it has acknowledged.
func TestAFullWindowIsRefilledFromTheLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Delivery.WindowEvents = 4 })
	d := n.attach("orch", "daemon", everything)
	var events []stored
	for range 20 {
		s := c.publish("orch")
		var after uint64
		if len(events) > 0 {
			after = events[len(events)-1].sequence
		}
		c.forward(n, s, after)
		events = append(events, s)
	}
	n.eventuallyMetric(`gateway_edge_events_total{outcome="sent"}`, "4")
	require.Eventually(t, func() bool { return n.metric("gateway_edge_windows_full_total") != "0" }, testserver.Patience, 10*time.Millisecond)
	d.expectEvents(events...)
}

// A daemon that reads nothing is cut off after the write timeout, and others
// are served meanwhile.
func TestASlowReaderIsClosedWhileOthersGoOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) {
		cfg.Sockets.WSWriteTimeout = 5 * time.Second
		cfg.Delivery.WindowEvents = 1000
	})
	stuck := n.silent()
	for _, text := range []string{
		frameOf("auth", authPayload(t, "orch", "stuck")), frameOf("subscribe", `{"eventTypes":["*"]}`),
	} {
		writeMasked(t, stuck, text)
	}
	fine := n.attach("orch", "fine", everything)
	size := 10 << 20 // in all, more than its socket takes
	large := func(e *event.Event) {
		withoutAck(e)
		if size > 0 {
			e.Payload = json.RawMessage(`{"text":"` + strings.Repeat("x", 200<<10) + `"}`)
			size -= len(e.Payload)
		}
	}
	var previous uint64
	for until := time.Now().Add(testserver.Patience); n.metric(`gateway_edge_closes_total{code="ABNORMAL"}`) != "1"; {
		s := c.publish("orch", large)
		c.forward(n, s, previous)
		previous = s.sequence
		require.Equal(t, s.id, fine.expect(protocol.TypeEvent).text("eventId"))
		require.True(t, time.Now().Before(until), "the stuck daemon was never cut off")
	}
}

func TestDeliveryGoesOnAfterNATSWasAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Delivery.NetInterval = time.Hour })
	d := n.attach("orch", "daemon", everything)
	c.nats.Restart()
	require.Eventually(t, c.nc.IsConnected, testserver.Patience, 10*time.Millisecond)
	var s stored
	require.Eventually(t, func() bool {
		return c.log.RenewSentinel(t.Context(), 0) == nil && c.log.RenewSentinel(t.Context(), 1) == nil
	}, testserver.Patience, 10*time.Millisecond)
	s = c.publish("orch")
	d.expectEvents(s)
}

func TestANewEpochStartsFromTheOldestEvent(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	d := n.attach("orch", "daemon", everything)
	s := c.publish("orch")
	c.forward(n, s, 0)
	d.expectEvents(s)
	_, err := c.log.RaiseEpoch(t.Context(), s.p, c.log.Epoch(s.p))
	require.NoError(t, err)
	d.expectEvents(s)
}

// Invariant 2: a higher priority may overtake, but only what waits for the socket.
func TestEventsWithoutPriorityKeepTheOrderOfTheLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	var events []stored
	for range 300 {
		events = append(events, c.publish("orch", withoutAck))
	}
	d := n.attach("orch", "daemon", everything)
	for _, s := range events {
		require.Equal(t, s.id, d.expect(protocol.TypeEvent).text("eventId"))
	}
}
