package bridge

import (
	"context"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/bridge/beats"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

func TestCluster(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(testserver.Port(t)))
	node := server.Client()
	require.NoError(t, node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	eventually(t, func() bool {
		return node.Set(t.Context(), "daemon:session:d1", `{"orchestratorId":"vp"}`, 0).Err() == nil
	}, "the cluster is up")

	cfg := redisConfig("redis://127.0.0.1:1") // its host is not used
	cfg.RedisAddrs = []string{server.Addr()}
	cfg.RedisPatterns = []string{"daemon:*:events"}
	l := listen(t, cfg, func(*timing) {})
	require.IsType(t, &redis.ClusterClient{}, l.client)
	eventually(t, l.connected, "subscribed")
	publish(t, node, "daemon:events", "x")
	publish(t, node, "daemon:d1:events", "y")
	eventually(t, func() bool { return l.in.len() == 2 }, "both are heard")
	whose, err := lookupSession(t.Context(), l.client, "d1")
	require.NoError(t, err)
	require.EqualValues(t, "vp", whose)

	// A heartbeat's keys lie on different nodes, for all that the client knows.
	s := &site{t: t, nats: testserver.NATS(t)}
	writing, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- beats.New(s.nats.JetStream().Conn(), l.client, discard, prometheus.NewRegistry()).Run(writing)
	}()
	s.beat(node, "vp")
	stop()
	require.NoError(t, <-ended)

	push(t, node, "vp", eventsOf("vp", 0, 3)...)
	log := newFaultyStore()
	require.NoError(t, drainerOf(t, l.client, log).pass(t.Context()))
	require.Equal(t, eventIDs("vp", 0, 3), log.stored["vp"])
}
