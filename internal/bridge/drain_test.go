package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// draining is the site's configuration with draining on, and impatient.
func (s *site) draining() Config {
	cfg := s.config()
	cfg.Redis.RedisDrainLists, cfg.Redis.RedisDrainInterval = true, 20*time.Millisecond
	return cfg
}

// push does what Neolith's message router does, oldest first.
func push(t *testing.T, client redis.UniversalClient, list string, elements ...string) {
	t.Helper()
	for _, element := range elements {
		require.NoError(t, client.LPush(t.Context(), listPrefix+list, element).Err())
	}
}

func (s *site) awaitEmpty(lists ...string) {
	s.t.Helper()
	client := s.publisher()
	for _, list := range lists {
		eventually(s.t, func() bool {
			left, err := client.LLen(s.t.Context(), listPrefix+list).Result()
			return err == nil && left == 0
		}, "list "+list+" is empty")
	}
}

func (m *metrics) drainedAs(o outcome) float64 {
	return testutil.ToFloat64(m.drained.Of(o))
}

// drainedIntoLog counts what is in the log, also where the log was asked again
// because its answer came too late.
func (m *metrics) drainedIntoLog() float64 {
	return m.drainedAs(outcomeStored) + m.drainedAs(outcomeDuplicate)
}

// eventsOf are events from..to of an orchestrator, as published.
func eventsOf(orchestrator string, from, to int) (bodies []string) {
	for n := from; n < to; n++ {
		bodies = append(bodies, eventJSON(orchestrator, n))
	}
	return bodies
}

// TestListsAreDrained: those named after a daemon, whose events may name a
// channel as the orchestrator, and those named after an orchestrator.
func TestListsAreDrained(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	client := s.publisher()
	require.NoError(t, client.Set(t.Context(), "daemon:session:d1", `{"orchestratorId":"vp-1"}`, 0).Err())
	push(t, client, "d1", eventsOf("channel-7", 0, 120)...)
	push(t, client, "daemon_session_vp-2_1732291200000", eventsOf("channel-7", 200, 210)...)
	push(t, client, "vp-3", eventJSON("vp-3", 0), "hello", eventJSON("vp-3", 1), `{"id":"x"}`, eventJSON("vp-3", 2))
	push(t, client, "nobody", eventJSON("channel-8", 0))
	require.NoError(t, client.LPush(t.Context(), "daemon:metrics:vp-3", "other").Err())
	require.NoError(t, client.Set(t.Context(), "daemon:events:text", "no list", 0).Err())

	a := s.start(s.draining())
	s.awaitEmpty("d1", "daemon_session_vp-2_1732291200000")
	eventually(t, func() bool { return client.LLen(t.Context(), listPrefix+"vp-3").Val() == 2 }, "what is malformed stays")
	eventually(t, func() bool { return testutil.ToFloat64(a.metrics.drainLeft) == 3 }, "and is counted, with what is nobody's")
	stored := s.stored(a.cfg.Log.Partitions)
	require.Equal(t, map[string]int{"vp-1": 120, "vp-2": 10, "vp-3": 3}, counts(stored))
	require.Equal(t, eventIDs("channel-7", 0, 120), ids(stored["vp-1"]), "oldest first")
	require.EqualValues(t, "d1", stored["vp-1"][0].DaemonID)
	require.Equal(t, eventIDs("channel-7", 200, 210), ids(stored["vp-2"]))
	require.Equal(t, eventIDs("vp-3", 0, 3), ids(stored["vp-3"]), "what is malformed does not hold up the rest")
	require.Empty(t, s.deadLetters())
	require.Equal(t, []string{`{"id":"x"}`, "hello"}, client.LRange(t.Context(), listPrefix+"vp-3", 0, -1).Val())
	require.EqualValues(t, 1, client.LLen(t.Context(), listPrefix+"nobody").Val())
	require.EqualValues(t, 1, client.LLen(t.Context(), "daemon:metrics:vp-3").Val())

	push(t, client, "vp-3", eventJSON("vp-3", 3))
	eventually(t, func() bool { return client.LLen(t.Context(), listPrefix+"vp-3").Val() == 2 }, "what is pushed later goes past what stays")
	require.NoError(t, a.wait())
	require.GreaterOrEqual(t, a.metrics.drainedIntoLog(), 134.0)
}

// pending is an event as Neolith's API service keeps it: its list says whose it is.
func pending(id string) string {
	return fmt.Sprintf(`{"id":%q,"type":"message.received","payload":{"n":1},"createdAt":"2026-11-22T10:00:00.000Z"}`, id)
}

// Other code of Neolith's keeps events without an orchestrator, or in sorted sets,
// or in the queue of its router.
func TestAllShapesOfListsAreDrained(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	client := s.publisher()
	require.NoError(t, client.Set(t.Context(), "daemon:session:s1", `{"orchestratorId":"vp-1","daemonId":"d1"}`, 0).Err())
	require.NoError(t, client.SAdd(t.Context(), "daemon:instance:d1:sessions", "gone", "s1").Err())
	push(t, client, "d1", pending("p1"))
	push(t, client, "daemon_session_vp-2_1732291200000", pending("p2"))
	push(t, client, "vp-3", pending("p3"), eventJSON("vp-3", 0))
	for n := range 120 {
		require.NoError(t, client.ZAdd(t.Context(), listPrefix+"vp-4", redis.Z{Score: float64(n), Member: eventJSON("vp-4", n)}).Err())
	}
	require.NoError(t, client.ZAdd(t.Context(), listPrefix+"vp-4", redis.Z{Score: 5.5, Member: "hello"}).Err())
	const message = `{"messageId":"m1","channelId":"channel-7","authorId":"a","content":"<hello>","createdAt":"2026-11-22T10:00:00.000Z","queuedAt":"2026-11-22T10:00:00.500Z"}`
	require.NoError(t, client.RPush(t.Context(), queuePrefix+"vp-5", eventJSON("channel-7", 0), message, pending("p5")).Err())

	a := s.start(s.draining())
	s.awaitEmpty("d1", "daemon_session_vp-2_1732291200000", "vp-3")
	eventually(t, func() bool {
		return client.ZCard(t.Context(), listPrefix+"vp-4").Val() == 1 && client.LLen(t.Context(), queuePrefix+"vp-5").Val() == 0
	}, "sorted sets and queues are drained")
	stored := s.stored(a.cfg.Log.Partitions)
	require.Equal(t, []string{"p1"}, ids(stored["vp-1"]))
	require.EqualValues(t, "d1", stored["vp-1"][0].DaemonID)
	require.Equal(t, []string{"p2"}, ids(stored["vp-2"]))
	require.Equal(t, []string{"p3", "event_vp-3_0"}, ids(stored["vp-3"]))
	require.Empty(t, stored["vp-3"][0].DaemonID)
	require.Equal(t, eventIDs("vp-4", 0, 120), ids(stored["vp-4"]), "in the order of their scores")
	require.Equal(t, []string{"event_channel-7_0", "queued_m1", "p5"}, ids(stored["vp-5"]), "the router pushes to the tail")
	made := stored["vp-5"][1]
	require.Equal(t, event.Event{
		ID: "queued_m1", Type: "message.received", OrchestratorID: "vp-5", ChannelID: "channel-7", RequiresAck: true,
		Timestamp: "2026-11-22T10:00:00.000Z", Payload: made.Payload,
	}, made)
	require.JSONEq(t, `{"messageId":"m1","channelId":"channel-7","content":"<hello>","authorId":"a","timestamp":"2026-11-22T10:00:00.000Z"}`, string(made.Payload))
	require.Empty(t, s.deadLetters())
}

// What code paths that publish nothing push is delivered soon, also where the
// interval is long.
func TestWhatIsOnlyPushedDoesNotWaitForTheInterval(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.Redis.RedisDrainLists, cfg.Redis.RedisDrainInterval = true, time.Hour
	s.start(cfg).ready()
	for n := range 3 {
		push(t, s.publisher(), "vp", eventJSON("vp", n))
		s.awaitEmpty("vp")
	}
}

// TestWhatCannotBePlacedHidesNothing: more of it than a pass reads at once.
func TestWhatCannotBePlacedHidesNothing(t *testing.T) {
	t.Parallel()
	client := testserver.Redis(t).Client()
	var bad []string
	for n := range 130 {
		bad = append(bad, fmt.Sprintf("not JSON %d", n))
	}
	push(t, client, "vp", bad...)
	push(t, client, "vp", eventsOf("vp", 0, 70)...)
	log := newFaultyStore()
	d := drainerOf(t, client, log)
	for range 2 {
		require.NoError(t, d.pass(t.Context()))
		require.EqualValues(t, 130, client.LLen(t.Context(), listPrefix+"vp").Val())
		require.EqualValues(t, 130, testutil.ToFloat64(d.metrics.drainLeft))
	}
	require.Equal(t, eventIDs("vp", 0, 70), log.stored["vp"])
}

func TestListsAreLeftAloneUnlessAsked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	client := s.publisher()
	push(t, client, "vp", eventJSON("vp", 0))
	a := s.start(s.config()).ready()
	publish(t, client, "daemon:events", eventJSON("vp", 1))
	a.settled(1)
	require.NoError(t, a.wait())
	require.EqualValues(t, 1, client.LLen(t.Context(), listPrefix+"vp").Val())
	require.Equal(t, eventIDs("vp", 1, 2), ids(s.stored(a.cfg.Log.Partitions)["vp"]))
}

// TestListedAndHeardIsStoredOnce: the message router does both.
func TestListedAndHeardIsStoredOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.draining()
	cfg.Redis.RedisPatterns = []string{"daemon:*:events"}
	a := s.start(cfg).ready()
	client := s.publisher()
	require.NoError(t, client.Set(t.Context(), "daemon:session:d1", `{"orchestratorId":"vp-1"}`, 0).Err())
	for _, body := range eventsOf("channel-7", 0, 50) {
		push(t, client, "d1", body)
		publish(t, client, "daemon:d1:events", body)
	}
	s.awaitEmpty("d1")
	a.settled(50)
	require.ElementsMatch(t, eventIDs("channel-7", 0, 50), ids(s.stored(cfg.Log.Partitions)["vp-1"]))
}

// After a purge NATS still recognizes what was purged (nats-io/nats-server#6782): an
// element that counts as a duplicate is in no log, and must not leave its list.
func TestWhatWasPurgedIsStoredOnceItsIDIsForgotten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.Log.DuplicateWindow = 3 * time.Second
	a := s.start(cfg).ready()
	client := s.publisher()
	publish(t, client, "daemon:events", eventJSON("vp", 0))
	a.settled(1)
	token := event.TokenOf("vp")
	partition := event.PartitionOf(token, cfg.Log.Partitions)
	stream, err := s.nats.JetStream().Stream(t.Context(), event.StreamName(partition))
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject(event.Subject(partition, token))))
	push(t, client, "vp", eventJSON("vp", 0))
	d := newDrainer(a.redis, a.pump, time.Hour, a.metrics, discard)
	eventually(t, func() bool {
		require.NoError(t, d.pass(t.Context()))
		return client.LLen(t.Context(), listPrefix+"vp").Val() == 0
	}, "it leaves its list in the end")
	require.Equal(t, eventIDs("vp", 0, 1), s.awaitStored(cfg, "vp", 1))
}

// What an orchestrator's newer events have replaced is not stored anew: it would
// replace those in its turn.
func TestWhatNewerEventsHaveReplacedLeavesItsList(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.Log.EventsPerOrchestrator = 3
	a := s.start(cfg).ready()
	client := s.publisher()
	for _, body := range eventsOf("vp", 0, 5) {
		publish(t, client, "daemon:events", body)
		push(t, client, "vp", body)
	}
	a.settled(5)
	require.NoError(t, newDrainer(a.redis, a.pump, time.Hour, a.metrics, discard).pass(t.Context()))
	require.Zero(t, client.LLen(t.Context(), listPrefix+"vp").Val())
	require.Equal(t, eventIDs("vp", 2, 5), ids(s.stored(cfg.Log.Partitions)["vp"]))
}

func TestTwoBridgesDrainTheSameLists(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	client := s.publisher()
	const lists, each = 12, 200
	var names []string
	for l := range lists {
		names = append(names, fmt.Sprintf("vp%d", l))
		push(t, client, names[l], eventsOf(names[l], 0, each)...)
	}
	a, b := s.start(s.draining()), s.start(s.draining())
	s.awaitEmpty(names...)
	require.NoError(t, a.wait())
	require.NoError(t, b.wait())
	stored := s.stored(a.cfg.Log.Partitions)
	for _, name := range names {
		require.Equal(t, eventIDs(name, 0, each), ids(stored[name]), "each once, in order")
	}
	require.LessOrEqual(t, a.metrics.drainedAs(outcomeStored)+b.metrics.drainedAs(outcomeStored), float64(lists*each))
	require.GreaterOrEqual(t, a.metrics.drainedIntoLog()+b.metrics.drainedIntoLog(), float64(lists*each))
}

// TestNeolithGoesOnWhileListsAreDrained: it pushes and trims the same lists.
func TestNeolithGoesOnWhileListsAreDrained(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(s.draining()).ready()
	client := s.publisher()
	const events, kept = 1000, 200
	for n := range events {
		push(t, client, "vp", eventJSON("vp", n))
		require.NoError(t, client.LTrim(t.Context(), listPrefix+"vp", 0, kept-1).Err())
	}
	s.awaitEmpty("vp")
	got := ids(s.stored(a.cfg.Log.Partitions)["vp"])
	require.Subset(t, got, eventIDs("vp", events-kept, events), "what Neolith has not trimmed is there")
	require.IsIncreasing(t, numbersOf(t, got))
}

func numbersOf(t *testing.T, ids []string) (numbers []int) {
	t.Helper()
	for _, id := range ids {
		var n int
		_, err := fmt.Sscanf(id, "event_vp_%d", &n)
		require.NoError(t, err)
		numbers = append(numbers, n)
	}
	return numbers
}

func TestLogThatIsAwayLeavesListsAsTheyAre(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(s.config()).ready()
	client := s.publisher()
	s.nats.Shutdown()
	push(t, client, "vp", eventsOf("vp", 0, 10)...)
	d := newDrainer(a.redis, a.pump, time.Hour, a.metrics, discard)
	require.ErrorIs(t, d.pass(t.Context()), eventlog.ErrUnavailable)
	require.EqualValues(t, 10, client.LLen(t.Context(), listPrefix+"vp").Val())
	s.nats.Start()
	eventually(t, func() bool { return d.pass(t.Context()) == nil }, "the log is back")
	require.Zero(t, client.LLen(t.Context(), listPrefix+"vp").Val())
	require.Equal(t, eventIDs("vp", 0, 10), ids(s.stored(a.cfg.Log.Partitions)["vp"]))
}

// drainerOf drains server's lists through client into a log of the test's.
func drainerOf(t *testing.T, client redis.UniversalClient, log *faultyStore) *drainer {
	t.Helper()
	p := startPump(t, log, nil, 10)
	return newDrainer(client, p.pump, time.Hour, p.metrics, discard)
}

// TestCrashAfterThePublish: the element is still listed, and the next bridge
// publishes it again; the log has it only once.
func TestCrashAfterThePublish(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(s.config()).ready()
	client := s.publisher()
	push(t, client, "vp", eventsOf("vp", 0, 5)...)
	dying := s.redis.Client()
	crash := newFaultyStore()
	crash.fail = func(int, event.Token, string) error {
		_ = dying.Close() // nothing more reaches Redis from this process
		_, _, err := a.pump.takeListed(t.Context(), nil, list{prefix: listPrefix, name: "vp"}, []byte(eventJSON("vp", 0)))
		return err
	}
	require.ErrorContains(t, drainerOf(t, dying, crash).pass(t.Context()), "in the log")
	require.EqualValues(t, 5, client.LLen(t.Context(), listPrefix+"vp").Val())

	next := newDrainer(client, a.pump, time.Hour, a.metrics, discard)
	eventually(t, func() bool { return next.pass(t.Context()) == nil }, "the next bridge drains the list")
	require.GreaterOrEqual(t, next.metrics.drainedAs(outcomeDuplicate), 1.0)
	require.GreaterOrEqual(t, next.metrics.drainedIntoLog(), 5.0)
	require.Zero(t, client.LLen(t.Context(), listPrefix+"vp").Val())
	require.Equal(t, eventIDs("vp", 0, 5), ids(s.stored(a.cfg.Log.Partitions)["vp"]))
}

// TestListThatCannotBeShortened: an ACL forbids LREM. Published in each pass, an
// element would be stored again and again, once a duplicate window.
// Reports: nats-io/nats-server#7302.
func TestListThatCannotBeShortened(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	admin := server.Client()
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "bridge", "on", ">pw", "+@all", "~*", "-lrem").Err())
	client := server.Client(func(o *redis.Options) { o.Username, o.Password = "bridge", "pw" })
	push(t, admin, "vp", eventsOf("vp", 0, 3)...)
	log := newFaultyStore()
	d := drainerOf(t, client, log)
	for range 3 {
		require.ErrorContains(t, d.pass(t.Context()), "NOPERM")
	}
	require.Equal(t, eventIDs("vp", 0, 1), log.stored["vp"])
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "bridge", "+lrem").Err())
	require.NoError(t, d.pass(t.Context()))
	require.Equal(t, eventIDs("vp", 0, 3), log.stored["vp"])
	require.Zero(t, admin.Exists(t.Context(), listPrefix+"vp").Val())
}

// TestElementThatTheLogRefusesStays: and nothing behind it waits for it.
func TestElementThatTheLogRefusesStays(t *testing.T) {
	t.Parallel()
	client := testserver.Redis(t).Client()
	push(t, client, "vp", eventsOf("vp", 0, 2)...)
	log := newFaultyStore()
	log.fail = func(_ int, _ event.Token, id string) error {
		if id == eventIDs("vp", 0, 1)[0] {
			return eventlog.ErrTooLarge
		}
		return nil
	}
	d := drainerOf(t, client, log)
	require.NoError(t, d.pass(t.Context()))
	require.Equal(t, eventsOf("vp", 0, 1), client.LRange(t.Context(), listPrefix+"vp", 0, -1).Val())
	require.Equal(t, eventIDs("vp", 1, 2), log.stored["vp"])
	require.Empty(t, log.letters)
	require.EqualValues(t, 1, testutil.ToFloat64(d.metrics.drainLeft))
}

// An error that nobody knows says nothing of the element, which stays.
func TestElementStaysWhereNobodyKnowsWhatIsWrong(t *testing.T) {
	t.Parallel()
	client := testserver.Redis(t).Client()
	push(t, client, "vp", eventJSON("vp", 0))
	unknown := errors.New("no such thing")
	log := newFaultyStore()
	log.fail = func(int, event.Token, string) error { return unknown }
	require.ErrorIs(t, drainerOf(t, client, log).pass(t.Context()), unknown)
	require.EqualValues(t, 1, client.LLen(t.Context(), listPrefix+"vp").Val())
	require.Empty(t, log.letters)
}

func TestElementStaysWhileTheLogIsFull(t *testing.T) {
	t.Parallel()
	client := testserver.Redis(t).Client()
	push(t, client, "vp", eventJSON("vp", 0))
	log := newFaultyStore()
	log.fail = func(int, event.Token, string) error { return eventlog.ErrLogFull }
	d := drainerOf(t, client, log)
	require.ErrorIs(t, d.pass(t.Context()), eventlog.ErrLogFull)
	require.EqualValues(t, 1, client.LLen(t.Context(), listPrefix+"vp").Val())
}

// A partition that is full, or has no leader, keeps nobody else's events waiting.
func TestListsThatTheLogDoesNotTakeHoldUpNoOther(t *testing.T) {
	t.Parallel()
	client := testserver.Redis(t).Client()
	log := newFaultyStore()
	log.fail = func(_ int, token event.Token, _ string) error {
		if strings.HasPrefix(string(token), "full") {
			return eventlog.ErrLogFull
		}
		return nil
	}
	for i := range 20 {
		full, other := fmt.Sprintf("full-%d", i), fmt.Sprintf("other-%d", i)
		push(t, client, full, eventsOf(full, 0, 2)...)
		push(t, client, other, eventsOf(other, 0, 2)...)
	}
	d := drainerOf(t, client, log)
	require.ErrorIs(t, d.pass(t.Context()), eventlog.ErrLogFull)
	for i := range 20 {
		require.Zero(t, client.LLen(t.Context(), listPrefix+fmt.Sprintf("other-%d", i)).Val())
		require.EqualValues(t, 2, client.LLen(t.Context(), listPrefix+fmt.Sprintf("full-%d", i)).Val())
	}
}

// A partition that did not answer was asked for each of its lists, seconds each, and all
// others waited for the end of that.
func TestAPartitionThatDoesNotAnswerIsNotAskedForEachList(t *testing.T) {
	t.Parallel()
	client := testserver.Redis(t).Client()
	log := newFaultyStore()
	asked := 0 // guarded by log.mu
	log.fail = func(_ int, token event.Token, _ string) error {
		if strings.HasPrefix(string(token), "silent") {
			asked++
			return eventlog.ErrUnavailable
		}
		return nil
	}
	for i := range 100 {
		name := fmt.Sprintf("silent-%d", i)
		push(t, client, name, eventJSON(name, 0))
	}
	d := drainerOf(t, client, log)
	require.ErrorIs(t, d.pass(t.Context()), eventlog.ErrUnavailable)
	log.mu.Lock()
	require.Positive(t, asked)
	require.LessOrEqual(t, asked, listsAtOnce)
	log.fail = func(int, event.Token, string) error { return nil }
	log.mu.Unlock()
	require.NoError(t, d.pass(t.Context()), "it is asked again in the next pass")
	require.Len(t, log.stored, 100)
}

// TestStopInTheMiddleOfAList: what is in the log leaves the list all the same.
func TestStopInTheMiddleOfAList(t *testing.T) {
	t.Parallel()
	client := testserver.Redis(t).Client()
	push(t, client, "vp", eventsOf("vp", 0, 10)...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log := newFaultyStore()
	log.fail = func(_ int, _ event.Token, id string) error {
		if id == eventIDs("vp", 2, 3)[0] {
			stop()
		}
		return nil
	}
	require.NoError(t, drainerOf(t, client, log).Run(ctx))
	require.EqualValues(t, 7, client.LLen(t.Context(), listPrefix+"vp").Val())
	require.Equal(t, eventIDs("vp", 0, 3), log.stored["vp"])
}

// TestListThatBecameSomethingElse: what an earlier pass could not take off is not
// there any more, and other lists have nothing to do with it.
func TestListThatBecameSomethingElse(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	admin := server.Client()
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "bridge", "on", ">pw", "+@all", "~*", "-lrem").Err())
	client := server.Client(func(o *redis.Options) { o.Username, o.Password = "bridge", "pw" })
	push(t, admin, "vp", eventsOf("vp", 0, 1)...)
	log := newFaultyStore()
	d := drainerOf(t, client, log)
	require.ErrorContains(t, d.pass(t.Context()), "NOPERM")

	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "bridge", "+lrem").Err())
	require.NoError(t, admin.Set(t.Context(), listPrefix+"vp", "a text", 0).Err())
	push(t, admin, "other", eventsOf("other", 0, 2)...)
	require.NoError(t, d.pass(t.Context()))
	require.Equal(t, eventIDs("other", 0, 2), log.stored["other"])
}
