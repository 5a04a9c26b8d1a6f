package bridge

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// call is what an edge says to all bridges.
func (s *site) call(orchestrator string) {
	s.t.Helper()
	data, err := json.Marshal(canary.Call{Orchestrator: canary.Orchestrator(orchestrator), Uptime: time.Minute})
	require.NoError(s.t, err)
	nc := s.nats.JetStream().Conn()
	require.NoError(s.t, nc.Publish(canary.Subject, data))
	require.NoError(s.t, nc.Flush())
}

func (b *bridge) canaries(s status) float64 {
	return testutil.ToFloat64(b.metrics.canaries.Of(s))
}

// listeners waits until n bridges hear calls, which /readyz does not speak of.
func (s *site) listeners(n int) {
	s.t.Helper()
	eventually(s.t, func() bool {
		heard, err := s.nats.Server().Subsz(&server.SubszOptions{Subscriptions: true, Test: canary.Subject})
		return err == nil && len(heard.Subs) == n
	}, "the bridges listen for calls")
}

// twoConfigs are those of two bridges with names of their own.
func (s *site) twoConfigs() (first, second Config) {
	first, second = s.config(), s.config()
	first.NodeName, second.NodeName = "bridge-1", "bridge-2"
	return first, second
}

func TestCallBecomesAnEventInTheLogThroughRedis(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.twoConfigs()
	a, b := s.start(one).ready(), s.start(two).ready()
	s.listeners(2)
	s.call("edge-1")
	for _, bridge := range []*bridge{a, b} {
		eventually(t, func() bool { return bridge.canaries(statusSuccess) == 1 }, "each bridge has stored one of its own")
		require.Zero(t, bridge.canaries(statusError))
	}
	stored := s.stored(one.Log.Partitions)
	require.Len(t, stored, 1)
	require.Len(t, stored["_canary_edge-1"], 2)
	call, err := canary.ReadEvent(body(t, stored["_canary_edge-1"][0]))
	require.NoError(t, err)
	require.Equal(t, time.Minute, call.Uptime)

	for _, bridge := range []*bridge{a, b} {
		require.Zero(t, testutil.ToFloat64(bridge.metrics.received), "no user's message")
		require.Zero(t, testutil.ToFloat64(bridge.metrics.published))
		require.Zero(t, testutil.ToFloat64(bridge.metrics.duplicates))
		require.True(t, bridge.link.state().lastMessage.IsZero(), "a canary does not hide that nothing is published")
	}
}

func body(t *testing.T, e event.Event) []byte {
	t.Helper()
	text, err := e.MarshalJSON()
	require.NoError(t, err)
	return text
}

// TestPatternsThatFitCanaries: such a bridge hears its own canary twice and
// those of the others, and must not take any for a message of Neolith.
func TestPatternsThatFitCanaries(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.twoConfigs()
	one.Redis.RedisPatterns = []string{"*"}
	a, b := s.start(one).ready(), s.start(two).ready()
	s.listeners(2)
	s.call("edge-1")
	eventually(t, func() bool { return a.canaries(statusSuccess)+b.canaries(statusSuccess) == 2 }, "one of each")
	publish(t, s.publisher(), "daemon:events", eventJSON("vp", 0)) // heard by pattern and channel
	a.settled(2)
	require.EqualValues(t, 1, a.canaries(statusSuccess))
	require.EqualValues(t, 2, testutil.ToFloat64(a.metrics.received))
	require.Len(t, s.stored(one.Log.Partitions)["_canary_edge-1"], 2)
}

func TestNeolithCannotPublishCanaries(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.Redis.RedisPatterns = []string{"daemon:*:events"}
	a := s.start(cfg).ready()
	client := s.publisher()
	publish(t, client, "daemon:events", eventJSON("_canary_edge-1", 0))
	publish(t, client, "daemon:daemon_session__canary_edge-1_1732291200000:events", eventJSON("channel", 1))
	publish(t, client, canary.Channel(cfg.Node()), eventJSON("vp", 2), "hello")
	publish(t, client, "daemon:events", eventJSON("vp", 3))
	a.settled(3)
	require.EqualValues(t, 2, testutil.ToFloat64(a.metrics.rejected.Of(event.ReasonInvalidField)))
	require.Equal(t, map[string]int{"vp": 1}, counts(s.stored(cfg.Log.Partitions)))
	letters := s.deadLetters()
	require.Len(t, letters, 2, "what stands on the canaries' channel is no event")
	for _, letter := range letters {
		require.Contains(t, letter.Detail, "reserved")
	}
}

func counts(events map[string][]event.Event) map[string]int {
	n := map[string]int{}
	for orchestrator, of := range events {
		n[orchestrator] = len(of)
	}
	return n
}

// TestForbiddenCanaryDoesNotHarmEvents: an ACL that was written for Neolith's
// channels alone forbids the bridge the channel of its canaries.
func TestForbiddenCanaryDoesNotHarmEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.publisher()
	acl := func(rules ...any) {
		require.NoError(t, admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "bridge"}, rules...)...).Err())
	}
	acl("on", ">pw", "+@all", "~*", "resetchannels", "&daemon:events")
	cfg := s.config()
	cfg.Redis.RedisURL = settings.URL("redis://bridge:pw@" + s.redis.Addr())
	a := s.start(cfg).ready()
	s.listeners(1)
	publish(t, admin, "daemon:events", eventJSON("vp", 0))
	a.settled(1)
	s.call("edge-1")
	eventually(t, func() bool { return a.canaries(statusError) == 1 }, "it shows that there are no canaries")
	require.Equal(t, map[string]int{"vp": 1}, counts(s.stored(cfg.Log.Partitions)))

	// An ACL that forbids everything for a while, and then nothing: the events
	// come back whatever the canary's turn is.
	acl("resetchannels")
	require.NoError(t, admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
	eventually(t, func() bool { return strings.Contains(a.link.state().problem, "NOPERM") }, "refused")
	acl("&daemon:*")
	a.ready()
	publish(t, admin, "daemon:events", eventJSON("vp", 1))
	a.settled(2)
}

// TestCanariesNeverTakeAnEventsPlace: a buffer that fills is for events.
func TestCanariesNeverTakeAnEventsPlace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.PublishBuffer = 4
	a := s.start(cfg).ready()
	require.NoError(t, a.unfitForCanaries())
	s.nats.Shutdown()
	eventually(t, func() bool { ok, _ := a.nats.Check(); return !ok }, "the loss of NATS is known")
	for n := range 3 {
		publish(t, s.publisher(), "daemon:events", eventJSON("vp", n))
	}
	eventually(t, func() bool { return a.pump.depth() == 3 }, "held")
	require.ErrorContains(t, a.unfitForCanaries(), "buffer")
	s.redis.Kill()
	eventually(t, func() bool { return !a.link.state().connected }, "Redis is away")
	require.ErrorContains(t, a.unfitForCanaries(), "not subscribed")
	s.nats.Start()
	a.settled(3)
}

func TestWhatIsNoCallIsCountedAndForgotten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(s.config()).ready()
	s.listeners(1)
	nc := s.nats.JetStream().Conn()
	for _, data := range []string{"", "{}", `{"orchestrator":"vp"}`, strings.Repeat("x", 1000)} {
		require.NoError(t, nc.Publish(canary.Subject, []byte(data)))
	}
	require.NoError(t, nc.Flush())
	eventually(t, func() bool { return a.canaries(statusError) == 4 }, "counted")
	s.call("edge-1")
	eventually(t, func() bool { return a.canaries(statusSuccess) == 1 }, "the next one works")
}

// TestStopDoesNotWaitForCanaries: one that was heard when NATS went away is not
// worth the time of a stop, nor a message that is reported as lost.
func TestStopDoesNotWaitForCanaries(t *testing.T) {
	t.Parallel()
	call := canary.Call{Orchestrator: canary.Orchestrator("edge-1")}
	body, err := call.Event()
	require.NoError(t, err)
	in, m := newInbox(10, maxBufferBytes), newMetrics(prometheus.NewPedanticRegistry())
	p := newPump(in, nil, nil, func() bool { return false }, event.DefaultMaxBytes, m, discard)
	in.push(heard{channel: canary.Channel("bridge-1"), body: body})
	in.close()
	require.Zero(t, p.run(t.Context(), newFaultyStore()))
	require.EqualValues(t, 1, testutil.ToFloat64(m.canaries.Of(statusError)))
}
