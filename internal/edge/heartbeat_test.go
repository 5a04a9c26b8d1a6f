package edge

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/heartbeat"
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

	m, err := sub.NextMsg(patience)
	require.NoError(t, err)
	p, err := heartbeat.PartitionOf(m.Subject)
	require.NoError(t, err)
	require.Equal(t, event.PartitionOf(event.TokenOf("vp/1"), n.cfg.Log.Partitions), p)
	beats, err := heartbeat.Decode(m.Data)
	require.NoError(t, err)
	require.Len(t, beats, 1)
	got := beats[0]
	require.NotEmpty(t, got.Session)
	require.WithinRange(t, got.ReceivedAt, began, time.Now())
	got.Session, got.ReceivedAt = "", time.Time{}
	require.Equal(t, heartbeat.Beat{
		Orchestrator: "vp/1", Daemon: "daemon", Organization: "org",
		Status: protocol.StatusBusy, Metrics: map[string]float64{"errors": 3},
	}, got)
}
