package beats

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// TestWhatRedisDoesNotTakeWaits: Redis does not take heartbeats for a while, for
// one reason or another; then the newest of each session is written.
func TestWhatRedisDoesNotTakeWaits(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*testing.T, *site) {
		return func(t *testing.T, s *site) { require.NoError(t, s.neolith.ConfigSet(t.Context(), name, value).Err()) }
	}
	for name, outage := range map[string]struct{ begin, end func(*testing.T, *site) }{
		"away":   {func(_ *testing.T, s *site) { s.redis.Kill() }, func(_ *testing.T, s *site) { s.redis.Start() }},
		"frozen": {func(_ *testing.T, s *site) { s.redis.Pause() }, func(_ *testing.T, s *site) { s.redis.Resume() }},
		"full":   {set("maxmemory", "1"), set("maxmemory", "0")},
		"a replica": {
			func(t *testing.T, s *site) {
				require.NoError(t, s.neolith.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
			},
			func(t *testing.T, s *site) { require.NoError(t, s.neolith.ReplicaOf(t.Context(), "no", "one").Err()) },
		},
		"a replica that does not serve without its master": {
			func(t *testing.T, s *site) {
				set("replica-serve-stale-data", "no")(t, s)
				require.NoError(t, s.neolith.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
			},
			func(t *testing.T, s *site) { require.NoError(t, s.neolith.ReplicaOf(t.Context(), "no", "one").Err()) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			b := s.bridge(s.client(func(o *redis.UniversalOptions) { o.ReadTimeout = time.Second })) // silence is noticed by it
			s.say(someBeat("before"))
			require.Eventually(t, func() bool { return b.outcome(written)+b.outcome(superseded) == 1 }, patience, 5*time.Millisecond)

			outage.begin(t, s)
			const orchestrators = 20
			for round := range 3 {
				for i := range orchestrators {
					h := someBeat(protocol.OrchestratorID(fmt.Sprintf("vp-%d", i)))
					h.ReceivedAt = receivedAt.Add(time.Duration(round) * time.Second)
					s.say(h)
				}
			}
			require.Eventually(t, func() bool {
				ok, detail := b.Check()
				return !ok && b.waiting.Len() == orchestrators && detail != ""
			}, patience, 5*time.Millisecond)

			outage.end(t, s)
			require.Eventually(t, func() bool { return b.waiting.Len() == 0 }, patience, 5*time.Millisecond)
			require.Equal(t, 1+orchestrators, b.outcome(written)+b.outcome(superseded))
			require.Zero(t, b.outcome(refused))
			for i := range orchestrators {
				require.Contains(t, s.get(fmt.Sprintf("daemon:heartbeat:vp-%d", i)), `"receivedAt":"2026-11-22T10:00:02.120Z"`)
			}
			require.Eventually(t, func() bool { ok, _ := b.Check(); return ok }, patience, 5*time.Millisecond)
		})
	}
}

func TestALateHeartbeatDoesNotReplaceANewerOne(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	proxy := testserver.RedisProxy(t, s.redis)
	late := s.bridge(s.client(func(o *redis.UniversalOptions) { o.Addrs = []string{proxy.URL()[len("redis://"):]} }))
	proxy.Cut()
	s.say(someBeat("vp"))
	require.Eventually(t, func() bool { ok, _ := late.Check(); return !ok }, patience, 5*time.Millisecond)
	other := s.bridge(s.client())
	newer := someBeat("vp")
	newer.ReceivedAt = receivedAt.Add(10 * time.Second)
	other.add(newer, time.Now())
	other.await(written, 1)
	proxy.Heal()
	late.await(superseded, 1)
	require.Contains(t, s.get("daemon:heartbeat:vp"), "10:00:10.120Z")
	require.EqualValues(t, 1, s.neolith.LLen(t.Context(), "daemon:metrics:vp").Val())
}

func TestWhatSaysNothingAnyMoreIsNotWritten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge(s.client())
	b.add(someBeat("old"), time.Now().Add(-heartbeat.Lifetime-time.Second))
	b.await(stale, 1)
	b.add(someBeat("half"), time.Now().Add(-heartbeat.Lifetime/2))
	b.await(written, 1)
	require.Equal(t, []string{"daemon:heartbeat:half"}, s.neolith.Keys(t.Context(), "daemon:heartbeat:*").Val())
	require.LessOrEqual(t, s.neolith.TTL(t.Context(), "daemon:heartbeat:half").Val(), heartbeat.Lifetime/2, "counted from when it was heard")
}

func TestOverTheBoundTheOldestIsForgotten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.redis.Kill()
	b := s.bridge(s.client())
	const each = 8 << 10
	for i := range maxWaitingBytes / each {
		h := someBeat(protocol.OrchestratorID(fmt.Sprint(i)))
		h.Metrics = fmt.Appendf(nil, `{%q:1}`, strings.Repeat("x", each))
		b.add(h, time.Now())
	}
	require.Positive(t, b.outcome(overflow))
	require.Less(t, b.waiting.Len(), maxWaitingBytes/each)
}

// TestAHeartbeatThatRedisRefusesHoldsNobodyUp: somebody has put something else
// where it belongs.
func TestAHeartbeatThatRedisRefusesHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge(s.client())
	require.NoError(t, s.neolith.Set(t.Context(), "daemon:metrics:odd", "text", 0).Err())
	s.say(someBeat("odd"), someBeat("vp"))
	b.await(refused, 1)
	b.await(written, 1)
	require.Zero(t, b.waiting.Len())
	ok, detail := b.Check()
	require.True(t, ok, detail)
}
