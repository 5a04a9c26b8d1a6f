package bridge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	manyOrchestrators = 50
	eventsOfEach      = 200
)

// publishMany publishes events from..to of every orchestrator, mixed.
func publishMany(t *testing.T, s *site, from, to int) {
	client := s.publisher()
	for n := from; n < to; n++ {
		var bodies []string
		for o := range manyOrchestrators {
			bodies = append(bodies, eventJSON(fmt.Sprintf("vp%d", o), n))
		}
		publish(t, client, "daemon:events", bodies...)
	}
}

// requireEachOnceInOrder checks the log after publishMany(0, eventsOfEach).
func requireEachOnceInOrder(t *testing.T, s *site, cfg Config) {
	t.Helper()
	stored := s.stored(cfg.Log.Partitions)
	require.Len(t, stored, manyOrchestrators)
	for o := range manyOrchestrators {
		name := fmt.Sprintf("vp%d", o)
		require.Equal(t, eventIDs(name, 0, eventsOfEach), ids(stored[name]))
	}
}

func TestTwoBridgesStoreEachEventOnceInOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	a, b := s.start(cfg), s.start(cfg)
	a.ready()
	b.ready()
	publishMany(t, s, 0, eventsOfEach)
	a.settled(manyOrchestrators * eventsOfEach)
	b.settled(manyOrchestrators * eventsOfEach)
	requireEachOnceInOrder(t, s, cfg)
	requireCounted(t, manyOrchestrators*eventsOfEach, func(b *bridge) float64 { return testutil.ToFloat64(b.metrics.published) }, a, b)
	require.NoError(t, a.wait())
	require.NoError(t, b.wait())
}

// TestNATSRestart: what is in flight at that moment may have been stored or
// not; it is tried again, and the log recognizes it.
func TestNATSRestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	a, b := s.start(cfg).ready(), s.start(cfg).ready()
	published := make(chan struct{})
	go func() {
		defer close(published)
		publishMany(t, s, 0, eventsOfEach)
	}()
	eventually(t, func() bool { return testutil.ToFloat64(a.metrics.received) > manyOrchestrators*eventsOfEach/4 }, "in the middle")
	s.nats.Restart()
	<-published
	a.settled(manyOrchestrators * eventsOfEach)
	b.settled(manyOrchestrators * eventsOfEach)
	requireEachOnceInOrder(t, s, cfg)
	require.Zero(t, testutil.ToFloat64(a.metrics.dropped)+testutil.ToFloat64(b.metrics.dropped))
}

func TestRedisRestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.Redis.RedisPatterns = []string{"daemon:events:*"}
	a := s.start(cfg).ready()
	publish(t, s.publisher(), "daemon:events", eventJSON("vp", 0))
	a.settled(1)
	require.Zero(t, testutil.ToFloat64(a.metrics.gaps))

	s.redis.Kill()
	eventually(t, func() bool { _, waits := a.readyz(); return waits["redis"] != "" }, "the loss of Redis shows in /readyz")
	require.NoError(t, testutil.GatherAndCompare(a.registry, strings.NewReader(`
# HELP gateway_bridge_connected Whether the subscription on Redis is complete.
# TYPE gateway_bridge_connected gauge
gateway_bridge_connected 0
# HELP gateway_redis_up Whether Redis answers, and with no error to a ping.
# TYPE gateway_redis_up gauge
gateway_redis_up 0
`), "gateway_bridge_connected", "gateway_redis_up"))

	s.redis.Start()
	a.ready()
	eventually(t, func() bool { return a.gaps() > 0 }, "the gap is counted")
	require.NoError(t, testutil.GatherAndCompare(a.registry, strings.NewReader(`
# HELP gateway_bridge_connected Whether the subscription on Redis is complete.
# TYPE gateway_bridge_connected gauge
gateway_bridge_connected 1
# HELP gateway_bridge_gaps_total Subscriptions on Redis after the first: what was published before each may not have been heard.
# TYPE gateway_bridge_gaps_total counter
gateway_bridge_gaps_total 1
# HELP gateway_redis_up Whether Redis answers, and with no error to a ping.
# TYPE gateway_redis_up gauge
gateway_redis_up 1
`), "gateway_bridge_connected", "gateway_bridge_gaps_total", "gateway_redis_up"))
	require.Positive(t, a.link.disconnected(time.Now()))
	publish(t, s.publisher(), "daemon:events", eventJSON("vp", 1))
	publish(t, s.publisher(), "daemon:events:acme", eventJSON("vp", 2))
	a.settled(3)
	require.Len(t, s.stored(cfg.Log.Partitions)["vp"], 3)
}

// malformed returns messages that no log should hold, and why. Each is about
// another event, since a dead letter is kept once for each event and reason.
func malformed() map[string]event.Reason {
	number := 1000
	replace := func(from, to string) string {
		number++
		return strings.Replace(eventJSON("vp", number), from, to, 1)
	}
	return map[string]event.Reason{
		"":                                 event.ReasonNotJSON,
		"hello":                            event.ReasonNotJSON,
		"[]":                               event.ReasonNotJSON,
		"null":                             event.ReasonNotJSON,
		replace("}", ""):                   event.ReasonNotJSON,
		replace("received", "\xff"):        event.ReasonInvalidUTF8,
		"{}":                               event.ReasonMissingField,
		replace(`"id"`, `"ID"`):            event.ReasonMissingField,
		replace(`"orchestratorId"`, `"o"`): event.ReasonMissingField,
		replace(`"payload"`, `"p"`):        event.ReasonMissingField,
		replace(`"type"`, `"t"`):           event.ReasonMissingField,
		replace(`"payload":{`, `"payload":"text","p":{`):                            event.ReasonInvalidField,
		replace(`"message.received"`, `"x"`):                                        event.ReasonInvalidField,
		replace(`"daemonId":""`, `"daemonId":7`):                                    event.ReasonInvalidField,
		replace(`"vp"`, `17`):                                                       event.ReasonInvalidField,
		replace(`"vp"`, `"`+strings.Repeat("v", 129)+`"`):                           event.ReasonInvalidField,
		replace(`"n":`, `"n":"`+strings.Repeat("x", 256<<10)+`","m":`):              event.ReasonTooLarge,
		replace(`"n":`, `"over max_payload":"`+strings.Repeat("x", 2<<20)+`","m":`): event.ReasonTooLarge,
	}
}

func TestMalformedMessagesBecomeDeadLetters(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	a, b := s.start(cfg).ready(), s.start(cfg).ready()
	bad := malformed()
	client := s.publisher()
	want, number := map[event.Reason]int{}, 0
	for body, reason := range bad {
		publish(t, client, "daemon:events", body, eventJSON("vp", number))
		want[reason]++
		number++
	}
	a.settled(2 * len(bad))
	b.settled(2 * len(bad))
	require.Equal(t, eventIDs("vp", 0, number), ids(s.stored(cfg.Log.Partitions)["vp"]), "the good ones pass")

	got := map[event.Reason]int{}
	for _, letter := range s.deadLetters() {
		got[letter.Reason]++
		require.NotEmpty(t, letter.Detail)
		require.NotZero(t, letter.BodySHA256)
	}
	require.Equal(t, want, got, "each once, though there are two bridges")
	for reason, n := range want {
		require.EqualValues(t, n, testutil.ToFloat64(a.metrics.rejected.Of(reason)), reason)
	}
}

// Names alone: what else stands in a message may be a secret, and is in its letter.
func TestTheAuditLogSaysWhatWasRefusedFromRedis(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(s.config()).ready()
	token := "eyJhbGciOiJIUzI1NiJ9." + strings.Repeat("secret", 40)
	client := s.publisher()
	publish(t, client, "daemon:events", token)
	publish(t, client, "daemon:events:org", `{"id":"e1","type":"`+token+`","orchestratorId":"vp","payload":{"accessToken":"`+token+`"}}`)
	publish(t, client, "daemon:nobody:events", eventJSON("vp", 0))
	a.settled(3)
	for _, want := range []map[string]any{
		{"reason": string(event.ReasonNotJSON), "channel": "daemon:events", "bytes": float64(len(token))},
		{"reason": string(event.ReasonInvalidField), "channel": "daemon:events:org", "event": "e1", "orchestrator": "vp"},
		{"reason": string(event.ReasonUnresolvedDaemon), "channel": "daemon:nobody:events", "daemon": "nobody"},
	} {
		lines := a.said.Audited("reason", want["reason"].(string))
		require.Len(t, lines, 1, want)
		require.Equal(t, "event_refused", lines[0]["act"])
		for name, value := range want {
			require.Equal(t, value, lines[0][name], "%s of %v", name, lines[0])
		}
	}
	require.NotContains(t, a.said.String(), token)

	flood := make([]string, 2000)
	for i := range flood {
		flood[i] = "no event"
	}
	publish(t, client, "daemon:events", flood...)
	a.settled(3 + len(flood))
	require.EqualValues(t, 1+len(flood), testutil.ToFloat64(a.metrics.rejected.Of(event.ReasonNotJSON)), "all are counted")
	require.Less(t, len(a.said.Audited("act", "event_refused")), len(flood)/2, "and some are told of")
}

// TestMessagesOfTheMessageRouter: on a daemon's own channel only the daemon's
// id is right.
func TestMessagesOfTheMessageRouter(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.Redis.RedisPatterns = []string{"daemon:*:events", "daemon:events:*"}
	a := s.start(cfg).ready()
	client := s.publisher()
	require.NoError(t, client.Set(t.Context(), "daemon:session:d1", `{"orchestratorId":"vp-1","other":1}`, 0).Err())
	require.NoError(t, client.Set(t.Context(), "daemon:session:broken", `{"orchestratorId":""}`, 0).Err())
	require.NoError(t, client.LPush(t.Context(), "daemon:session:list", "x").Err())
	const each = 50
	total := 0
	send := func(channel string, number int) {
		publish(t, client, channel, eventJSON("channel-7", number))
		total++
	}
	for n := range each {
		send("daemon:d1:events", n)
		send("daemon:daemon_session_vp-2_1732291200000:events", 1000+n)
	}
	send("daemon:nobody:events", 2000)
	send("daemon:broken:events", 2001)
	publish(t, client, "daemon:events:events", eventJSON("vp-3", 0)) // heard by both patterns
	total += 2
	a.settled(total)

	stored := s.stored(cfg.Log.Partitions)
	require.Equal(t, eventIDs("channel-7", 0, each), ids(stored["vp-1"]))
	require.Equal(t, eventIDs("channel-7", 1000, 1000+each), ids(stored["vp-2"]))
	require.Equal(t, eventIDs("vp-3", 0, 1), ids(stored["vp-3"]))
	require.Len(t, stored, 3, "nothing is stored under the id of a channel")
	require.Equal(t, "d1", string(stored["vp-1"][0].DaemonID))
	letters := s.deadLetters()
	require.Len(t, letters, 2)
	for _, letter := range letters {
		require.Equal(t, event.ReasonUnresolvedDaemon, letter.Reason)
		require.Empty(t, letter.Orchestrator)
		require.Regexp(t, "nobody|broken", letter.Detail)
	}
}

func TestFullBufferDropsTheOldest(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.PublishBuffer = 50
	a := s.start(cfg).ready()
	s.nats.Shutdown()
	eventually(t, func() bool { ok, _ := a.nats.Check(); return !ok }, "the loss of NATS is known")
	client := s.publisher()
	for n := range 200 {
		publish(t, client, "daemon:events", eventJSON("vp", n))
	}
	eventually(t, func() bool { return testutil.ToFloat64(a.metrics.dropped) == 150 }, "150 are dropped")
	eventually(t, func() bool {
		_, waits := a.readyz()
		return waits["buffer"] == "50 of 50 messages held" && waits["nats"] != ""
	}, "readiness tells")
	s.nats.Start()
	a.ready()
	a.settled(200)
	require.Equal(t, eventIDs("vp", 150, 200), ids(s.stored(cfg.Log.Partitions)["vp"]))
}

func TestStopPublishesWhatIsHeld(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.ShutdownTimeout = patience
	a := s.start(cfg).ready()
	s.nats.Shutdown()
	client := s.publisher()
	const events = 500
	for n := range events {
		publish(t, client, "daemon:events", eventJSON("vp", n))
	}
	a.stop()
	eventually(t, func() bool {
		heard, err := client.PubSubNumSub(t.Context(), "daemon:events").Result()
		return err == nil && heard["daemon:events"] == 0
	}, "the bridge has unsubscribed")
	publish(t, client, "daemon:events", eventJSON("vp", events))
	eventually(t, func() bool { return a.pump.depth() == events }, "what was on its way is held")
	s.nats.Start()
	require.NoError(t, a.wait())
	require.Equal(t, eventIDs("vp", 0, events), ids(s.stored(cfg.Log.Partitions)["vp"]))
}

func TestStopReportsWhatCouldNotBePublished(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.ShutdownTimeout = time.Second
	a := s.start(cfg).ready()
	s.nats.Shutdown()
	publish(t, s.publisher(), "daemon:events", eventJSON("a", 0), eventJSON("b", 0), "not json")
	eventually(t, func() bool { return a.pump.depth() == 3 }, "all are held")
	require.ErrorContains(t, a.wait(), "3 messages were not published")
	require.EqualValues(t, 3, testutil.ToFloat64(a.metrics.dropped))
}

func TestAnyStartOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	s.nats.Shutdown()
	s.redis.Kill()
	a := s.start(cfg)
	eventually(t, func() bool {
		code, waits := a.readyz()
		return code == http.StatusServiceUnavailable && waits["redis"] != "" && waits["nats"] != "" && strings.Contains(waits["log"], "not connected")
	}, "what it waits for shows in /readyz")
	s.redis.Start()
	eventually(t, func() bool { _, waits := a.readyz(); return len(waits) == 2 }, "Redis is there")
	publish(t, s.publisher(), "daemon:events", eventJSON("vp", 0))
	eventually(t, func() bool { return a.pump.depth() == 1 }, "the event is held")
	s.nats.Start()
	a.ready()
	a.settled(1)
	require.Len(t, s.stored(cfg.Log.Partitions)["vp"], 1)

	idle := s.start(cfg)
	idle.ready()
	s.nats.Shutdown()
	require.NoError(t, idle.wait(), "without anything to publish a stop does not wait for NATS")
}

func TestStopWhileNothingIsThereYet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.nats.Shutdown()
	s.redis.Kill()
	require.NoError(t, s.start(s.config()).wait())
}

func TestPartitionMismatchEndsTheBridge(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(s.config()).ready()
	cfg := s.config()
	cfg.Log.Partitions++
	b := s.start(cfg)
	<-b.done
	require.ErrorContains(t, b.err, "PARTITIONS")
}
