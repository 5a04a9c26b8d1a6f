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

func TestHeartbeatsArePublishedForTheirPartition(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	sub, err := c.nc.SubscribeSync(heartbeat.AllSubjects)
	require.NoError(t, err)
	require.NoError(t, c.nc.Flush())
	began := time.Now().Truncate(time.Millisecond)
	d := n.login("vp/1", "daemon", func(g *auth.Grant) { g.Organization = "org" })
	d.send("heartbeat", `{"status":"busy","metrics":{"errors":3}}`)
	d.expect(protocol.TypeHeartbeatAck)

	m, err := sub.NextMsg(testserver.Patience)
	require.NoError(t, err)
	p, err := heartbeat.PartitionOf(m.Subject)
	require.NoError(t, err)
	require.Equal(t, event.PartitionOf(event.TokenOf("vp/1"), n.cfg.Log.Partitions), p)
	beats, err := heartbeat.Decode(m.Data)
	require.NoError(t, err)
	require.Len(t, beats, 1)
	got := beats[0]
	if got.Opened { // a second before its heartbeat
		require.Empty(t, got.Status)
		require.Empty(t, got.Metrics)
		m, err = sub.NextMsg(testserver.Patience)
		require.NoError(t, err)
		beats, err = heartbeat.Decode(m.Data)
		require.NoError(t, err)
		got = beats[0]
	}
	require.NotEmpty(t, got.Session)
	require.WithinRange(t, got.ConnectedAt, began, got.ReceivedAt)
	require.WithinRange(t, got.ReceivedAt, began, time.Now())
	got.Session, got.ReceivedAt, got.ConnectedAt = "", time.Time{}, time.Time{}
	require.Equal(t, heartbeat.Beat{
		Orchestrator: "vp/1", Daemon: "daemon", Organization: "org",
		Status: protocol.StatusBusy, Metrics: []byte(`{"errors":3}`),
	}, got)
}

// Neolith's message router believes a daemon connected from the first second on,
// not from its first heartbeat.
func TestANewConnectionIsReportedBeforeItsFirstHeartbeat(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	sub, err := c.nc.SubscribeSync(heartbeat.AllSubjects)
	require.NoError(t, err)
	require.NoError(t, c.nc.Flush())
	n.login("vp", "daemon")
	m, err := sub.NextMsg(testserver.Patience)
	require.NoError(t, err)
	beats, err := heartbeat.Decode(m.Data)
	require.NoError(t, err)
	require.Len(t, beats, 1)
	require.True(t, beats[0].Opened)
	require.Equal(t, protocol.DaemonID("daemon"), beats[0].Daemon)
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
