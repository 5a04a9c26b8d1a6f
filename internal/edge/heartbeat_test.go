package edge

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// beats returns what waits for the next heartbeat that edges publish, alone in its
// batch, and for its partition.
func (c *cluster) beats() (next func() (event.Partition, heartbeat.Beat)) {
	c.t.Helper()
	sub := testserver.Listen(c.t, c.nc, heartbeat.AllSubjects)
	return func() (event.Partition, heartbeat.Beat) {
		c.t.Helper()
		m, err := sub.NextMsg(testserver.Patience)
		require.NoError(c.t, err)
		p, err := heartbeat.PartitionOf(m.Subject)
		require.NoError(c.t, err)
		beats, err := heartbeat.Decode(m.Data)
		require.NoError(c.t, err)
		require.Len(c.t, beats, 1)
		return p, beats[0]
	}
}

func TestHeartbeatsArePublishedForTheirPartition(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	next := c.beats()
	began := time.Now().Truncate(time.Millisecond)
	d := n.login("vp/1", "daemon", func(g *auth.Grant) { g.Organization = "org" })
	d.send("heartbeat", `{"status":"busy","metrics":{"errors":3}}`)
	d.expect(protocol.TypeHeartbeatAck)

	p, got := next()
	require.Equal(t, event.PartitionOf(event.TokenOf("vp/1"), n.cfg.Log.Partitions), p)
	if got.Opened { // a second before its heartbeat
		require.Empty(t, got.Status)
		require.Empty(t, got.Metrics)
		_, got = next()
	}
	require.NotEmpty(t, got.Session)
	require.WithinRange(t, got.ConnectedAt, began, got.ReceivedAt)
	require.WithinRange(t, got.ReceivedAt, began, time.Now())
	got.Session, got.ReceivedAt, got.ConnectedAt = "", time.Time{}, time.Time{}
	require.Equal(t, heartbeat.Beat{
		Orchestrator: "vp/1", Daemon: "daemon", Named: true, Organization: "org",
		Status: protocol.StatusBusy, Metrics: []byte(`{"errors":3}`),
	}, got)
}

// Neolith's message router believes a daemon connected from the first second on,
// not from its first heartbeat.
func TestANewConnectionIsReportedBeforeItsFirstHeartbeat(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	next := c.beats()
	n.login("vp", "daemon")
	_, got := next()
	require.True(t, got.Opened)
	require.Equal(t, protocol.DaemonID("daemon"), got.Daemon)
}

func TestAHeartbeatCountsWithoutWhatCannotBeUsedOfIt(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	d := n.login("vp", "daemon")
	for i := range 2 {
		d.send("heartbeat", `{"status":"dreaming","metrics":[1]}`)
		d.expect(protocol.TypeHeartbeatAck)
		if i == 0 {
			require.Equal(t, "m-heartbeat", d.expectFault(protocol.InvalidMessage).text("inReplyTo"))
		}
	}
	n.eventuallyMetric(`gateway_edge_message_fields_left_out_total{field="status"}`, "2")
	n.eventuallyMetric(`gateway_edge_message_fields_left_out_total{field="metrics"}`, "2")
}
