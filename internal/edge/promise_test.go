package edge

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// loseCursors deletes the bucket of an orchestrator's cursors, and makes it again.
func (c *cluster) loseCursors(p event.Partition) {
	c.t.Helper()
	js := c.nats.JetStream()
	require.NoError(c.t, js.DeleteKeyValue(c.t.Context(), eventlog.CursorBucket(p)))
	_, err := eventlog.Open(c.t.Context(), js, testConfig(c).Log, quiet(), prometheus.NewRegistry())
	require.NoError(c.t, err)
}

// Invariant 1: cursors are lost while one daemon is away and another is connected, which
// wants something else. Its edge puts it back, and what it has passed over waits for the
// other all the same. Who comes later, wanting as much, is not sent that again.
func TestWhatADaemonIsOwedOutlivesItsCursor(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	n.attach("orch", "away", `["vp.*"]`).leave(n)
	there := n.attach("orch", "there", `["message.*"]`)
	wanted, named, message := c.publish("orch", mention), c.publish("orch", mention, to("away")), c.publish("orch")
	c.loseCursors(message.p)
	c.hint(n, message)
	there.expectEvents(message)
	n.eventuallyMetric(`gateway_edge_events_total{outcome="acked"}`, "1")
	n.written()

	away := n.attach("orch", "away", `["vp.*"]`)
	away.expectEvents(wanted, named)
	n.eventuallyMetric(`gateway_edge_events_total{outcome="acked"}`, "3")
	n.written()
	newcomer := n.attach("orch", "newcomer", `["vp.*"]`)
	next := c.publish("orch", mention)
	c.hint(n, next)
	newcomer.expectEvents(next)
}

// Invariant 1: what a daemon is told that it has subscribed to is passed by nobody, so it
// is told when that is stored; nothing else waits for NATS.
func TestALaterSubscribeIsAnsweredOnceItIsStored(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	d := n.attach("orch", "daemon", `["message.*"]`)
	n.written()
	c.nats.Shutdown()
	d.send("subscribe", `{"eventTypes":["channel.*"]}`)
	d.send("subscribe", `{"eventTypes":["vp.*"],"confirm":true}`)
	d.send("heartbeat", `{}`)
	d.expect(protocol.TypeHeartbeatAck)
	c.nats.Start()
	d.expect(protocol.TypeSubscribed)
	require.True(t, cursor.Covers(c.record("orch").Daemons["daemon"].Subscriptions, []protocol.Subscription{
		{Pattern: "channel.*"}, {Pattern: "message.*"}, {Pattern: "vp.*"},
	}))
}
