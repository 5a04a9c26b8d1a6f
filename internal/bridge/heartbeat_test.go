package bridge

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// sayHeartbeat publishes a heartbeat as an edge does.
func (s *site) sayHeartbeat(orchestrator protocol.OrchestratorID) {
	s.t.Helper()
	data, err := json.Marshal([]heartbeat.Beat{{
		Orchestrator: orchestrator, Daemon: "daemon", Session: "session", Status: protocol.StatusBusy,
		Metrics: []byte(`{"errors":3}`), ReceivedAt: time.Now(), Organization: "org",
	}})
	require.NoError(s.t, err)
	conn := s.nats.JetStream().Conn()
	require.NoError(s.t, conn.Publish(heartbeat.Subject(0), data))
	require.NoError(s.t, conn.Flush())
}

// beat publishes a heartbeat until all that comes of it is in Redis: a bridge
// that has just started may not hear the first.
func (s *site) beat(neolith redis.UniversalClient, orchestrator string) {
	s.t.Helper()
	eventually(s.t, func() bool {
		s.sayHeartbeat(protocol.OrchestratorID(orchestrator))
		return neolith.Exists(s.t.Context(), "daemon:heartbeat:"+orchestrator).Val() == 1 &&
			neolith.LLen(s.t.Context(), "daemon:metrics:"+orchestrator).Val() > 0
	}, "the heartbeat is in Redis")
}

func TestHeartbeatsThatRedisForbidsHarmNoEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.publisher()
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "bridge", "on", ">pw", "+@all", "~daemon:session:*", "&daemon:*").Err())
	cfg := s.config()
	cfg.Redis.RedisURL = "redis://bridge:pw@" + cfg.Redis.RedisURL[len("redis://"):]
	a := s.start(cfg).ready()
	s.listeners(1)
	eventually(t, func() bool {
		s.sayHeartbeat("vp")
		return a.heartbeats("refused") > 0
	}, "heartbeats are refused")
	publish(t, admin, "daemon:events", eventJSON("vp", 0))
	a.settled(1)
	code, waits := a.readyz()
	require.Equal(t, http.StatusOK, code, waits)
	require.Equal(t, map[string]int{"vp": 1}, counts(s.stored(cfg.Log.Partitions)))
}

func (b *bridge) heartbeats(outcome string) float64 {
	b.t.Helper()
	families, err := b.registry.Gather()
	require.NoError(b.t, err)
	for _, family := range families {
		if family.GetName() != "gateway_bridge_heartbeats_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
