package bridge

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// withDatabase is the site's configuration with Neolith's database.
func (s *site) withDatabase(db *testserver.Database) Config {
	cfg := s.config()
	cfg.Postgres.DatabaseURL, cfg.Identity.QueryTimeout = settings.URL(db.URL()), patience
	return cfg
}

// neolith is a database with orchestrators vp0, vp1, … whose users are user0,
// user1, …
func neolith(t *testing.T, db *testserver.Database, orchestrators int) {
	t.Helper()
	db.NeolithTables(t)
	addOrchestrators(t, db, 0, orchestrators)
}

// neolithSite is a site whose bridges ask a database with orchestrators.
func neolithSite(t *testing.T, orchestrators int) (*site, *testserver.Database, Config) {
	t.Helper()
	s, db := newSite(t), testserver.Postgres(t)
	neolith(t, db, orchestrators)
	return s, db, s.withDatabase(db)
}

func addOrchestrators(t *testing.T, db *testserver.Database, from, to int) {
	t.Helper()
	var all []testserver.Orchestrator
	for n := from; n < to; n++ {
		all = append(all, testserver.Orchestrator{ID: fmt.Sprintf("vp%d", n), User: fmt.Sprintf("user%d", n)})
	}
	db.AddOrchestrators(t, all...)
}

// awaitStored waits until the log holds n events of the orchestrator, and
// returns their ids.
func (s *site) awaitStored(cfg Config, orchestrator string, n int) []string {
	s.t.Helper()
	token := event.TokenOf(orchestrator)
	partition := event.PartitionOf(token, cfg.Log.Partitions)
	js := s.connect()
	defer js.Conn().Close()
	stream, err := js.Stream(s.t.Context(), event.StreamName(partition))
	require.NoError(s.t, err)
	subject := event.Subject(partition, token)
	require.Eventually(s.t, func() bool {
		info, err := stream.Info(s.t.Context(), jetstream.WithSubjectFilter(subject))
		return err == nil && info.State.Subjects[subject] >= uint64(n)
	}, patience, 20*time.Millisecond, "%d events of %s are in the log", n, orchestrator)
	return ids(s.stored(cfg.Log.Partitions)[orchestrator])
}

// unresolvedEvents is what waits, by addressee.
func (s *site) unresolvedEvents() map[string]int {
	s.t.Helper()
	counts := map[string]int{}
	js := s.connect()
	defer js.Conn().Close()
	stream, err := js.Stream(s.t.Context(), eventlog.UnresolvedStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return counts
	}
	require.NoError(s.t, err)
	info, err := stream.Info(s.t.Context(), jetstream.WithSubjectFilter(">"))
	require.NoError(s.t, err)
	for subject, n := range info.State.Subjects {
		counts[strings.TrimPrefix(subject, eventlog.UnresolvedSubject(""))] = int(n)
	}
	return counts
}

// waiting is how many events wait, whoever they are for.
func (s *site) waiting() int {
	s.t.Helper()
	js := s.connect()
	defer js.Conn().Close()
	stream, err := js.Stream(s.t.Context(), eventlog.UnresolvedStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0
	}
	require.NoError(s.t, err)
	return int(stream.CachedInfo().State.Msgs)
}

// awaitUnresolved waits until so many events wait for each addressee.
func (s *site) awaitUnresolved(want map[string]int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return fmt.Sprint(s.unresolvedEvents()) == fmt.Sprint(want) }, patience, 50*time.Millisecond, "%v wait", want)
}

func (b *bridge) unresolved(why cause) float64 {
	return testutil.ToFloat64(b.metrics.unresolved.Of(why))
}

func (b *bridge) released(o outcome) float64 {
	return testutil.ToFloat64(b.metrics.released.Of(o))
}

func TestAnEventForAUserArrivesUnderItsOrchestrator(t *testing.T) {
	t.Parallel()
	s, _, cfg := neolithSite(t, 1)
	cfg.Redis.RedisPatterns = []string{"daemon:*:events"}
	a := s.start(cfg).ready()
	const odd = `{"id":"odd","type":"a.b","orchestratorId":"user0","payload":` + oddPayload + `}`
	client := s.publisher()
	publish(t, client, "daemon:events", odd, eventJSON("user0", 1), strings.Replace(eventJSON("user0", 1), "user0", "vp0", 2), eventJSON("vp0", 2))
	publish(t, client, "daemon:daemon_session_user0_1732291200000:events", eventJSON("a channel", 3))
	a.settled(5)
	stored := s.stored(cfg.Log.Partitions)
	require.Len(t, stored, 1, "all under the canonical id")
	require.ElementsMatch(t, []string{"odd", "event_user0_1", "event_vp0_1", "event_vp0_2", "event_a channel_3"}, ids(stored["vp0"]))
	// The order is that of each of its names.
	index := slices.Index(ids(stored["vp0"]), "odd")
	require.Equal(t, oddPayload, string(stored["vp0"][index].Payload))
	require.Zero(t, a.unresolved(causeUnknown))
	require.NoError(t, a.wait())
}

func TestTheSameEventForAnOrchestratorAndItsUserIsStoredOnce(t *testing.T) {
	t.Parallel()
	s, _, cfg := neolithSite(t, 1)
	a, b := s.start(cfg).ready(), s.start(cfg).ready()
	forUser := eventJSON("user0", 1)
	forItself := strings.Replace(forUser, `"orchestratorId":"user0"`, `"orchestratorId":"vp0"`, 1)
	publish(t, s.publisher(), "daemon:events", forUser, forItself)
	a.settled(2)
	b.settled(2)
	require.Equal(t, []string{"event_user0_1"}, ids(s.stored(cfg.Log.Partitions)["vp0"]))
}

func TestEventsForAnUnknownOrchestratorWaitUntilThereIsOne(t *testing.T) {
	t.Parallel()
	s, db, cfg := neolithSite(t, 1)
	a, b := s.start(cfg).ready(), s.start(cfg).ready()
	client := s.publisher()
	publish(t, client, "daemon:events", eventsOf("user1", 0, 20)...)
	publish(t, client, "daemon:events", eventJSON("vp0", 0), "not JSON")
	require.Equal(t, eventIDs("vp0", 0, 1), s.awaitStored(cfg, "vp0", 1), "others go on")
	s.awaitUnresolved(map[string]int{"user1": 20})
	eventually(t, func() bool {
		_, waits := a.readyz()
		return strings.HasPrefix(waits["unresolved"], "20 events wait for 1 addressees to be known, the oldest since ")
	}, "readiness tells")
	code, _ := a.readyz()
	require.Equal(t, http.StatusOK, code, "and does not depend on it")
	requireCounted(t, 20, func(b *bridge) float64 { return b.unresolved(causeUnknown) + b.unresolved(causeBehind) }, a, b)
	metrics := a.scrape()
	require.Contains(t, metrics, "gateway_bridge_unresolved_events 20")
	require.Contains(t, metrics, "gateway_bridge_unresolved_addressees 1")
	require.Contains(t, metrics, "gateway_bridge_unresolved_full_addressees 0")
	require.NotContains(t, metrics, "gateway_bridge_unresolved_oldest_age_seconds 0\n")

	addOrchestrators(t, db, 1, 2)
	publish(t, client, "daemon:events", eventsOf("user1", 20, 30)...)
	require.Equal(t, eventIDs("user1", 0, 30), s.awaitStored(cfg, "vp1", 30), "each once, in order")
	s.awaitUnresolved(map[string]int{})
	eventually(t, func() bool { _, waits := a.readyz(); return len(waits) == 0 }, "nothing waits")
	publish(t, client, "daemon:events", eventsOf("user1", 30, 40)...)
	require.Equal(t, eventIDs("user1", 0, 40), s.awaitStored(cfg, "vp1", 40))
	require.Len(t, s.deadLetters(), 1)
	require.NoError(t, a.wait())
	require.NoError(t, b.wait())
}

// scrape returns the bridge's metrics as text.
func (b *bridge) scrape() string {
	b.t.Helper()
	answer, err := http.Get("http://" + b.AdminAddr().String() + "/metrics")
	require.NoError(b.t, err)
	defer http.DefaultClient.CloseIdleConnections()
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(b.t, err)
	return string(text)
}

// TestWithoutPostgresTheRememberedGoOn: whether it is away or hangs, those who
// are remembered notice nothing; others wait and arrive in order afterwards.
func TestWithoutPostgresTheRememberedGoOn(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		begin, end func(*testserver.PostgresServer)
	}{
		"it is away": {(*testserver.PostgresServer).Stop, (*testserver.PostgresServer).Start},
		"it hangs":   {(*testserver.PostgresServer).Pause, (*testserver.PostgresServer).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			server := testserver.OwnPostgres(t)
			const others = window + 100
			neolith(t, server.Database, others+1)
			cfg := s.withDatabase(server.Database)
			cfg.Identity.QueryTimeout = 0 // the others wait once it is over
			a := s.start(cfg).ready()
			client := s.publisher()
			publish(t, client, "daemon:events", eventsOf("user0", 0, 10)...)
			a.settled(10)

			fault.begin(server)
			var burst []string
			for n := range others {
				burst = append(burst, eventJSON(fmt.Sprintf("user%d", n+1), 0))
			}
			publish(t, client, "daemon:events", burst...)
			publish(t, client, "daemon:events", eventsOf("user0", 10, 50)...)
			require.Equal(t, eventIDs("user0", 0, 50), s.awaitStored(cfg, "vp0", 50), "the remembered go on")
			publish(t, client, "daemon:events", eventsOf("user7", 1, 5)...)
			eventually(t, func() bool { return s.waiting() == others+4 }, "the others wait")
			code, _ := a.readyz()
			require.Equal(t, http.StatusOK, code)

			fault.end(server)
			publish(t, client, "daemon:events", eventsOf("user7", 5, 10)...)
			require.Equal(t, eventIDs("user7", 0, 10), s.awaitStored(cfg, "vp7", 10))
			eventually(t, func() bool { return s.waiting() == 0 && a.pump.depth() == 0 }, "all arrive")
			stored := s.stored(cfg.Log.Partitions)
			require.Len(t, stored, others+1)
			require.Len(t, slices.Concat(slices.Collect(maps.Values(stored))...), others+59, "each once")
			require.NoError(t, a.wait())
		})
	}
}

func TestABridgeThatStartsWithoutPostgresKeepsWhatItHears(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := testserver.OwnPostgres(t)
	neolith(t, server.Database, 2)
	server.Stop()
	cfg := s.withDatabase(server.Database)
	a := s.start(cfg).ready()
	client := s.publisher()
	publish(t, client, "daemon:events", eventsOf("user0", 0, 10)...)
	publish(t, client, "daemon:events", eventsOf("vp1", 0, 10)...)
	s.awaitUnresolved(map[string]int{"user0": 10, "vp1": 10})
	require.NoError(t, a.wait())

	b := s.start(cfg).ready()
	publish(t, client, "daemon:events", eventsOf("user0", 10, 20)...)
	s.awaitUnresolved(map[string]int{"user0": 20, "vp1": 10})
	server.Start()
	require.Equal(t, eventIDs("user0", 0, 20), s.awaitStored(cfg, "vp0", 20))
	require.Equal(t, eventIDs("vp1", 0, 10), s.awaitStored(cfg, "vp1", 10))
	s.awaitUnresolved(map[string]int{})
	require.NoError(t, b.wait())
}

// TestWhatAnEarlierRunLeftIsNotOvertaken: a bridge knows what waits before it
// publishes anything.
func TestWhatAnEarlierRunLeftIsNotOvertaken(t *testing.T) {
	t.Parallel()
	s, db, cfg := neolithSite(t, 0)
	a := s.start(cfg).ready()
	client := s.publisher()
	publish(t, client, "daemon:events", eventsOf("user0", 0, 300)...)
	s.awaitUnresolved(map[string]int{"user0": 300})
	require.NoError(t, a.wait())
	addOrchestrators(t, db, 0, 1)
	b := s.start(cfg).ready()
	publish(t, client, "daemon:events", eventsOf("user0", 300, 310)...)
	require.Equal(t, eventIDs("user0", 0, 310), s.awaitStored(cfg, "vp0", 310))
	require.NoError(t, b.wait())
}

// TestDaemonsEventsWaitToo: those of a daemon's own channel, and of its list.
func TestDaemonsEventsWaitToo(t *testing.T) {
	t.Parallel()
	s, db, cfg := neolithSite(t, 0)
	cfg.Redis.RedisPatterns = []string{"daemon:*:events"}
	cfg.Redis.RedisDrainLists = true
	client := s.publisher()
	for n := range 2 {
		require.NoError(t, client.Set(t.Context(), fmt.Sprintf("daemon:session:d%d", n), fmt.Sprintf(`{"orchestratorId":"vp%d"}`, n), 0).Err())
	}
	push(t, client, "d0", eventsOf("a channel", 0, 5)...)
	a := s.start(cfg).ready()
	publish(t, client, "daemon:d1:events", eventsOf("a channel", 5, 10)...)
	s.awaitUnresolved(map[string]int{"vp0": 5, "vp1": 5})
	s.awaitEmpty("d0")
	require.EqualValues(t, 5, testutil.ToFloat64(a.metrics.drained.Of(outcomeWaiting)))
	addOrchestrators(t, db, 0, 2)
	require.Equal(t, eventIDs("a channel", 0, 5), s.awaitStored(cfg, "vp0", 5))
	require.Equal(t, eventIDs("a channel", 5, 10), s.awaitStored(cfg, "vp1", 5))
	require.EqualValues(t, "d1", s.stored(cfg.Log.Partitions)["vp1"][0].DaemonID)
	push(t, client, "vp0", eventJSON("vp0", 100))
	s.awaitEmpty()
	require.NoError(t, a.wait())
}

// TestWhatIsNoEventAmongTheUnresolvedIsBuried: whoever has put it there, it does
// not hold up the others.
func TestWhatIsNoEventAmongTheUnresolvedIsBuried(t *testing.T) {
	t.Parallel()
	s, _, cfg := neolithSite(t, 1)
	a := s.start(cfg).ready()
	nc := s.nats.JetStream().Conn()
	for subject, body := range map[string]string{
		eventlog.UnresolvedSubject("user0"): "not JSON",
		eventlog.UnresolvedSubject("vp0"):   eventJSON("vp7", 0), // another's
		eventlog.UnresolvedSubject("=zz"):   eventJSON("vp0", 1), // no id's subject
	} {
		_, err := nc.RequestMsg(&nats.Msg{Subject: subject, Data: []byte(body)}, patience)
		require.NoError(t, err)
	}
	publish(t, s.publisher(), "daemon:events", eventsOf("user0", 2, 5)...)
	require.Equal(t, eventIDs("user0", 2, 5), s.awaitStored(cfg, "vp0", 3))
	eventually(t, func() bool { return len(s.deadLetters()) == 3 }, "all three are dead letters")
	reasons := map[event.Reason]int{}
	for _, letter := range s.deadLetters() {
		reasons[letter.Reason]++
	}
	require.Equal(t, map[event.Reason]int{event.ReasonNotJSON: 1, event.ReasonWrongSubject: 2}, reasons)
	s.awaitUnresolved(map[string]int{})
	require.NoError(t, a.wait())
}

// TestAFullStreamOfUnresolvedEventsHoldsUpOnlyItsOwn: what does not fit is held
// and tried again; orchestrators that are known, and become known, go on.
func TestAFullStreamOfUnresolvedEventsHoldsUpOnlyItsOwn(t *testing.T) {
	t.Parallel()
	s, db, cfg := neolithSite(t, 1)
	cfg.Log.LogMaxBytes = 1 << 20
	a := s.start(cfg).ready()
	client := s.publisher()
	large := func(orchestrator string) string {
		return strings.Replace(eventJSON(orchestrator, 0), `"n":0`, `"n":"`+strings.Repeat("x", 100_000)+`"`, 1)
	}
	const strangers = 20 // twice what there is room for
	for n := range strangers {
		publish(t, client, "daemon:events", large(fmt.Sprintf("user%d", n+2)))
	}
	eventually(t, func() bool { return testutil.ToFloat64(a.metrics.retries) > 0 }, "the stream is full")
	publish(t, client, "daemon:events", eventJSON("vp0", 0), large("vp1"))
	require.Equal(t, eventIDs("vp0", 0, 1), s.awaitStored(cfg, "vp0", 1))
	eventually(t, func() bool { return a.book.waiting.Waits("vp1") }, "it waits, though there is no room")
	addOrchestrators(t, db, 1, 2)
	require.Equal(t, eventIDs("vp1", 0, 1), s.awaitStored(cfg, "vp1", 1), "it needs no room by now")
	require.Positive(t, a.pump.depth())
	addOrchestrators(t, db, 2, strangers+2)
	eventually(t, func() bool { return len(s.stored(cfg.Log.Partitions)) == strangers+2 }, "all arrive")
	require.Zero(t, testutil.ToFloat64(a.metrics.dropped))
	require.NoError(t, a.wait())
}

// TestWithoutADatabaseNothingIsAsked: tokens alone decide.
func TestWithoutADatabaseNothingIsAsked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	a := s.start(cfg).ready()
	publish(t, s.publisher(), "daemon:events", eventJSON("user0", 0))
	a.settled(1)
	require.Equal(t, eventIDs("user0", 0, 1), ids(s.stored(cfg.Log.Partitions)["user0"]))
	_, err := s.nats.JetStream().Stream(t.Context(), eventlog.UnresolvedStream)
	require.Error(t, err, "there is no stream for what is not asked")
	require.NotContains(t, a.scrape(), "gateway_bridge_unresolved_events")
	require.NoError(t, a.wait())
}

// Whose a daemon is, an event itself may say where nothing else does: but only with
// an id that Neolith has.
func TestAnEventsOwnOrchestratorIsBelievedWhereNeolithHasIt(t *testing.T) {
	t.Parallel()
	s, _, cfg := neolithSite(t, 2)
	cfg.Redis.RedisDrainLists, cfg.Redis.RedisDrainInterval = true, 20*time.Millisecond
	client := s.publisher()
	push(t, client, "stranger-1", eventJSON("user0", 0), eventJSON("channel-7", 0))
	push(t, client, "vp1", pending("p1"))
	push(t, client, "stranger-2", pending("p2"))
	a := s.start(cfg).ready()
	require.Equal(t, eventIDs("user0", 0, 1), s.awaitStored(cfg, "vp0", 1))
	require.Equal(t, []string{"p1"}, s.awaitStored(cfg, "vp1", 1))
	publish(t, client, "daemon:stranger-3:events", eventJSON("vp1", 1), eventJSON("channel-7", 1))
	require.Equal(t, []string{"p1", "event_vp1_1"}, s.awaitStored(cfg, "vp1", 2))
	eventually(t, func() bool { return testutil.ToFloat64(a.metrics.drainLeft) == 2 }, "what is nobody's stays in its list")
	eventually(t, func() bool { return testutil.ToFloat64(a.metrics.rejected.Of(event.ReasonUnresolvedDaemon)) == 1 }, "and what was published goes to the dead letters")
	require.Empty(t, s.unresolvedEvents())
}
