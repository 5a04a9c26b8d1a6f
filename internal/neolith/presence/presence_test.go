package presence

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	patience   = testserver.Patience
	look       = 20 * time.Millisecond
	partitions = 4
)

// stage is a database, a NATS server and the gossip of edges and writers.
type stage struct {
	t        *testing.T
	database *testserver.Database
	nats     *testserver.NATSServer
	join     []string
}

func newStage(t *testing.T, database *testserver.Database) *stage {
	t.Helper()
	database.NeolithTables(t)
	var vps []testserver.Orchestrator
	for i := range 20 {
		vps = append(vps, testserver.Orchestrator{ID: fmt.Sprintf("vp_%d", i), User: fmt.Sprintf("user_%d", i)})
	}
	database.AddOrchestrators(t, vps...)
	return &stage{t: t, database: database, nats: testserver.NATS(t)}
}

// run has a part run until the returned function is called, or the test ends.
func (s *stage) run(f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	var once lifecycle.Stack
	once.Push("part", func(context.Context) error {
		cancel()
		return <-ended
	})
	stop = func() { require.NoError(s.t, once.Stop(context.Background())) }
	s.t.Cleanup(stop)
	return stop
}

func (s *stage) member(tier ring.Tier, name string) *ring.Directory {
	s.t.Helper()
	cfg := settings.Default[ring.Config]()
	cfg.GossipAddr, cfg.GossipJoin = "127.0.0.1:0", s.join
	d, err := ring.New(cfg, tier, name, "test", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(s.t, err)
	s.join = append(s.join, d.Self().Address)
	return d
}

func gossiping(d *ring.Directory) func(context.Context) error {
	return func(ctx context.Context) error { return d.Run(ctx, ctx.Done()) }
}

// edge is an edge as the gossip knows it.
type edge struct {
	*ring.Directory
	crash func()
}

func (s *stage) edge(name string) *edge {
	s.t.Helper()
	d := s.member(ring.TierEdge, name)
	s.t.Cleanup(func() { _ = d.Close() })
	return &edge{Directory: d, crash: s.run(gossiping(d))}
}

func (e *edge) hold(orchestrator protocol.OrchestratorID, session protocol.SessionID) {
	e.Claim(ring.Claim{Orchestrator: event.TokenOf(orchestrator), Session: session, Daemon: "daemon", Generation: 1})
}

// writer is a router's presence.
type writer struct {
	*Writer
	stop func()
}

func (s *stage) writer(name string, grace time.Duration) *writer {
	return s.writerThatSays(name, grace, WhenGoneAway)
}

func (s *stage) writerThatSays(name string, grace time.Duration, whenGone WhenGone) *writer {
	s.t.Helper()
	return s.writerThatCompares(pace{most: 100 * time.Millisecond}, name, grace, whenGone)
}

func (s *stage) writerThatCompares(compared pace, name string, grace time.Duration, whenGone WhenGone) *writer {
	s.t.Helper()
	cfg := settings.Default[postgres.Config]()
	cfg.DatabaseURL = settings.URL(s.database.URL())
	logger := slog.New(slog.DiscardHandler)
	db, err := postgres.Open(cfg, name, logger, prometheus.NewRegistry())
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = db.Close(context.Background()) })
	s.run(db.Run)
	conn := testserver.Connect(s.t, s.nats.ClientURL())
	d := s.member(ring.TierRouter, name)
	w := &writer{Writer: New(Config{PresenceGrace: grace, PresenceWhenGone: whenGone}, db, conn, d, partitions, name, logger, prometheus.NewRegistry())}
	w.pace = compared
	d.Watch(w)
	s.t.Cleanup(func() { _ = d.Close() })
	s.run(gossiping(d))
	w.stop = s.run(func(ctx context.Context) error {
		w.Run(ctx, func() []event.Partition { return []event.Partition{0, 1, 2, 3} })
		return nil
	})
	return w
}

// beat sends what a daemon says, once the writer hears.
func (s *stage) beat(orchestrator protocol.OrchestratorID, status protocol.Status) {
	s.t.Helper()
	conn := testserver.Connect(s.t, s.nats.ClientURL())
	body, err := json.Marshal([]heartbeat.Beat{{Orchestrator: orchestrator, Daemon: "daemon", Session: "s", Status: status, ReceivedAt: time.Now()}})
	require.NoError(s.t, err)
	require.NoError(s.t, conn.Publish(heartbeat.Subject(event.PartitionOf(event.TokenOf(orchestrator), partitions)), body))
	require.NoError(s.t, conn.Flush())
}

// shown is how Neolith sees an orchestrator.
func (s *stage) shown(orchestrator string) (status string, changedAt time.Time) {
	s.t.Helper()
	row := s.database.Connect(s.t).QueryRow(s.t.Context(), `select status::text, updated_at from vps where id = $1`, orchestrator)
	require.NoError(s.t, row.Scan(&status, &changedAt))
	return status, changedAt
}

func (s *stage) await(orchestrator string, want Status) {
	s.t.Helper()
	conn := s.database.Connect(s.t)
	require.Eventually(s.t, func() bool {
		var status string
		err := conn.QueryRow(context.Background(), `select status::text from vps where id = $1`, orchestrator).Scan(&status)
		return err == nil && status == string(want)
	}, patience, look, "%s is never shown as %s", orchestrator, want)
}

func TestNeolithSeesWhoIsConnectedAndWhatTheySay(t *testing.T) {
	t.Parallel()
	s := newStage(t, testserver.Postgres(t))
	e := s.edge("edge-1")
	s.writer("router-1", 0)
	s.database.Execute(t, `update vps set updated_at = timestamp '2020-01-01'`)
	e.hold("vp_1", "session-1")
	s.await("vp_1", Online)
	_, changedAt := s.shown("vp_1")
	require.WithinDuration(t, time.Now().UTC(), changedAt, time.Hour, "in UTC, as Prisma reads it")
	s.beat("vp_1", protocol.StatusBusy)
	s.await("vp_1", Busy)
	s.beat("vp_1", protocol.StatusIdle)
	s.await("vp_1", Away)
	s.beat("vp_1", protocol.StatusActive)
	s.await("vp_1", Online)
	e.Release("session-1")
	s.await("vp_1", Away)
	_, changedAt = s.shown("vp_2")
	require.Equal(t, 2020, changedAt.Year(), "nobody else was touched")
}

// Reports: beyondcode/laravel-websockets#508, lemonde/primus-cluster#6, janusvr/janus-server#63.
func TestTheOrchestratorsOfACrashedEdgeAreAwayUnlessTheyCameBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, testserver.Postgres(t))
	staying, crashing := s.edge("edge-1"), s.edge("edge-2")
	s.writer("router-1", 2*time.Second)
	crashing.hold("vp_1", "session-1")
	crashing.hold("vp_2", "session-2")
	s.await("vp_1", Online)
	s.await("vp_2", Online)
	s.beat("vp_1", protocol.StatusBusy)
	s.await("vp_1", Busy)
	staying.hold("vp_1", "session-3")
	crashing.crash()
	s.await("vp_2", Away)
	status, _ := s.shown("vp_1")
	require.Equal(t, "BUSY", status)
}

func TestOfTwoWritersOnlyTheLastOneWrites(t *testing.T) {
	t.Parallel()
	s := newStage(t, testserver.Postgres(t))
	e := s.edge("edge-1")
	first := s.writer("router-1", 0)
	e.hold("vp_1", "session-1")
	s.await("vp_1", Online)
	batch := []Change{{Partition: event.PartitionOf("vp_1", partitions), Term: 1, Orchestrator: "vp_1", Status: Gone}}
	// The second comes while the first still believes that all is its own.
	s.writer("router-2", 0)
	conn := s.database.Connect(t)
	require.Eventually(t, func() bool {
		var taken int
		err := conn.QueryRow(t.Context(), `select count(*) from daemon_gateway.presence_writers where node = 'router-2'`).Scan(&taken)
		return err == nil && taken == partitions
	}, patience, look)
	changed, lost, err := first.store.write(t.Context(), batch)
	require.NoError(t, err)
	require.Zero(t, changed)
	require.Equal(t, []event.Partition{batch[0].Partition}, lost)
	status, _ := s.shown("vp_1")
	require.Equal(t, "ONLINE", status)
}

func TestANewWriterTouchesNothingThatIsRight(t *testing.T) {
	t.Parallel()
	s := newStage(t, testserver.Postgres(t))
	e := s.edge("edge-1")
	first := s.writer("router-1", 0)
	for i := range 10 {
		e.hold(protocol.OrchestratorID(fmt.Sprintf("vp_%d", i)), protocol.SessionID(fmt.Sprintf("session-%d", i)))
	}
	for i := range 10 {
		s.await(fmt.Sprintf("vp_%d", i), Online)
	}
	s.beat("vp_3", protocol.StatusBusy)
	s.await("vp_3", Busy)
	first.stop()
	// What changes while there is no writer.
	e.hold("vp_10", "session-10")
	e.Release("session-5")
	s.database.Execute(t, `create table touched as select id from vps limit 0`)
	s.database.Execute(t, `create function note() returns trigger language plpgsql as
		$$ begin insert into touched values (new.id); return new; end $$`)
	s.database.Execute(t, `create trigger note after update on vps for each row execute function note()`)
	s.writer("router-2", 0)
	s.await("vp_10", Online)
	s.await("vp_5", Away)
	var touched []string
	row := s.database.Connect(t).QueryRow(t.Context(), `select array_agg(id order by id) from touched`)
	require.NoError(t, row.Scan(&touched))
	require.Equal(t, []string{"vp_10", "vp_5"}, touched)
}

func TestAfterTheWholeClusterWasAwayNobodyIsLeftOnline(t *testing.T) {
	t.Parallel()
	s := newStage(t, testserver.Postgres(t))
	e := s.edge("edge-1")
	first := s.writer("router-1", 0)
	e.hold("vp_1", "session-1")
	s.await("vp_1", Online)
	first.stop()
	e.crash()
	s.database.Execute(t, `update vps set status = 'BUSY' where id = 'vp_2'`)
	s.join = nil
	s.writer("router-2", 0)
	s.await("vp_1", Away)
	status, _ := s.shown("vp_2")
	require.Equal(t, "BUSY", status, "set by somebody else")
}

func TestWhileTheDatabaseIsAwayTheNewestStatusWaits(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]struct {
		away, back func(*testserver.PostgresServer)
	}{
		"stopped": {(*testserver.PostgresServer).Stop, (*testserver.PostgresServer).Start},
		"hanging": {(*testserver.PostgresServer).Pause, (*testserver.PostgresServer).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.OwnPostgres(t)
			s := newStage(t, server.Database)
			e := s.edge("edge-1")
			w := s.writer("router-1", 0)
			e.hold("vp_1", "session-1")
			e.hold("vp_2", "session-2")
			s.await("vp_1", Online)
			s.await("vp_2", Online)
			fail.away(server)
			s.beat("vp_1", protocol.StatusIdle)
			s.beat("vp_1", protocol.StatusBusy)
			e.Release("session-2")
			e.hold("vp_3", "session-3")
			require.Eventually(t, func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.tracker.waiting() == 3
			}, patience, look)
			fail.back(server)
			s.await("vp_1", Busy)
			s.await("vp_2", Away)
			s.await("vp_3", Online)
		})
	}
}

func TestAnOrchestratorThatNeolithDoesNotHaveIsLeftOut(t *testing.T) {
	t.Parallel()
	s := newStage(t, testserver.Postgres(t))
	e := s.edge("edge-1")
	s.writer("router-1", 0)
	e.hold("nobody", "session-0")
	e.hold("vp_1", "session-1")
	s.await("vp_1", Online)
	var kept []string
	row := s.database.Connect(t).QueryRow(t.Context(), `select array_agg(orchestrator_id) from daemon_gateway.presence`)
	require.NoError(t, row.Scan(&kept))
	require.Equal(t, []string{"vp_1"}, kept)
}

// Whoever else writes vps.status, what a connected daemon says comes back.
func TestWhatSomebodyElseSaysOfAConnectedDaemonDoesNotStay(t *testing.T) {
	t.Parallel()
	s := newStage(t, testserver.Postgres(t))
	e := s.edge("edge-1")
	s.writer("router-1", 0)
	e.hold("vp_1", "session-1")
	e.hold("vp_2", "session-2")
	s.await("vp_1", Online)
	s.await("vp_2", Online)
	s.beat("vp_1", protocol.StatusBusy)
	s.await("vp_1", Busy)
	s.database.Execute(t, `update vps set status = 'AWAY' where id in ('vp_1', 'vp_2')`)
	s.database.Execute(t, `update vps set status = 'ONLINE' where id = 'vp_3'`)
	s.await("vp_1", Busy)
	s.await("vp_2", Online)
	status, _ := s.shown("vp_3")
	require.Equal(t, "ONLINE", status, "nobody whom the gateway has")
	s.database.Execute(t, `update vps set status = 'OFFLINE' where id = 'vp_1'`)
	s.database.Execute(t, `update vps set status = 'AWAY' where id = 'vp_2'`)
	s.await("vp_2", Online)
	status, _ = s.shown("vp_1")
	require.Equal(t, "OFFLINE", status, "disabled")
	s.database.Execute(t, `update vps set status = 'AWAY' where id = 'vp_1'`)
	s.await("vp_1", Busy)
}

// Regression: what somebody else had written stayed for 20 s, however often daemons
// were to report.
func TestWhatSomebodyElseSaysStaysForLessThanAHeartbeatsInterval(t *testing.T) {
	t.Parallel()
	s := newStage(t, testserver.Postgres(t))
	e := s.edge("edge-1")
	never := pace{least: 100 * time.Millisecond, most: time.Hour}
	s.writerThatCompares(never, "router-1", 0, WhenGoneAway)
	e.hold("vp_1", "session-1")
	s.await("vp_1", Online) // and was compared for the first time
	s.database.Execute(t, `update vps set status = 'BUSY' where id = 'vp_1'`)
	beats := heartbeat.NewSender(testserver.Connect(t, s.nats.ClientURL()), time.Second, slog.New(slog.DiscardHandler))
	s.run(beats.Run)
	require.Eventually(t, func() bool {
		beats.Add(event.PartitionOf("vp_1", partitions), heartbeat.Beat{Orchestrator: "vp_1", Daemon: "daemon", Session: "session-1", ReceivedAt: time.Now()})
		status, _ := s.shown("vp_1")
		return status == string(Online)
	}, patience, look)
}

// Neolith refuses the login of a daemon whose orchestrator is OFFLINE: there it
// means disabled. A gateway that said so when a daemon left locked it out.
func TestWhatIsShownOfWhoIsGone(t *testing.T) {
	t.Parallel()
	for whenGone, want := range map[WhenGone]Status{WhenGoneAway: Away, WhenGoneOffline: "OFFLINE", WhenGoneKeep: Busy} {
		t.Run(string(whenGone), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, testserver.Postgres(t))
			e := s.edge("edge-1")
			first := s.writerThatSays("router-1", 0, whenGone)
			for range 2 {
				e.hold("vp_1", "session-1")
				e.hold("vp_2", "session-2")
				s.await("vp_1", Online)
				s.beat("vp_1", protocol.StatusBusy)
				s.await("vp_1", Busy)
				e.Release("session-1")
				s.awaitShown(map[string]Status{"vp_2": Online})
				s.await("vp_1", want)
			}
			// The next one knows what was written, too.
			first.stop()
			s.writerThatSays("router-2", 0, whenGone)
			e.hold("vp_1", "session-1")
			s.await("vp_1", Online)
		})
	}
}

func TestWhoNeolithHasDisabledStaysDisabled(t *testing.T) {
	t.Parallel()
	for _, whenGone := range []WhenGone{WhenGoneAway, WhenGoneOffline, WhenGoneKeep} {
		t.Run(string(whenGone), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, testserver.Postgres(t))
			e := s.edge("edge-1")
			s.writerThatSays("router-1", 0, whenGone)
			s.database.Execute(t, `update vps set status = 'OFFLINE' where id = 'vp_1'`)
			e.hold("vp_2", "session-2")
			s.await("vp_2", Online)
			s.database.Execute(t, `update vps set status = 'OFFLINE' where id = 'vp_2'`)
			for range 2 { // before it connects and while it is connected
				e.hold("vp_1", "session-1")
				e.hold("vp_2", "session-2")
				e.hold("vp_3", "session-3")
				s.awaitShown(map[string]Status{"vp_1": Online, "vp_2": Online, "vp_3": Online})
				s.beat("vp_1", protocol.StatusBusy)
				s.awaitShown(map[string]Status{"vp_1": Busy, "vp_2": Online, "vp_3": Online})
				e.Release("session-1")
				e.Release("session-2")
				e.Release("session-3")
				s.awaitShown(nil)
				for _, id := range []string{"vp_1", "vp_2"} {
					status, _ := s.shown(id)
					require.Equal(t, "OFFLINE", status, id)
				}
			}
		})
	}
}

// An OFFLINE of the gateway's is its own until somebody takes it back.
func TestWhoIsEnabledAndDisabledAgainStaysDisabled(t *testing.T) {
	t.Parallel()
	s := newStage(t, testserver.Postgres(t))
	e := s.edge("edge-1")
	s.writerThatSays("router-1", 0, WhenGoneOffline)
	e.hold("vp_1", "session-1")
	s.await("vp_1", Online)
	e.Release("session-1")
	s.await("vp_1", "OFFLINE")
	s.database.Execute(t, `update vps set status = 'AWAY' where id = 'vp_1'`)
	conn := s.database.Connect(t)
	require.Eventually(t, func() bool {
		var ours int
		require.NoError(t, conn.QueryRow(t.Context(), `select count(*) from daemon_gateway.presence where orchestrator_id = 'vp_1'`).Scan(&ours))
		return ours == 0
	}, patience, look)
	s.database.Execute(t, `update vps set status = 'OFFLINE' where id = 'vp_1'`)
	e.hold("vp_1", "session-1")
	s.awaitShown(map[string]Status{"vp_1": Online})
	status, _ := s.shown("vp_1")
	require.Equal(t, "OFFLINE", status)
}

// awaitShown waits until these are whom the gateway shows as connected.
func (s *stage) awaitShown(want map[string]Status) {
	s.t.Helper()
	conn := s.database.Connect(s.t)
	require.Eventually(s.t, func() bool {
		rows, err := conn.Query(context.Background(), `select orchestrator_id, status from daemon_gateway.presence where status <> 'OFFLINE'`)
		require.NoError(s.t, err)
		got := make(map[string]Status)
		var id, status string
		_, err = pgx.ForEachRow(rows, []any{&id, &status}, func() error {
			got[id] = Status(status)
			return nil
		})
		require.NoError(s.t, err)
		return maps.Equal(got, want)
	}, patience, look, "%v are never shown", want)
}

// prisma/orm#7678: where a status is taken away Prisma makes the type of a column anew, and whoever had prepared
// a statement for the old one fails.
func TestPrismaMayMakeTheTypeOfTheStatusAnew(t *testing.T) {
	t.Parallel()
	s := newStage(t, testserver.Postgres(t))
	e := s.edge("edge-1")
	s.writer("router-1", 0)
	e.hold("vp_1", "session-1")
	s.await("vp_1", Online)
	s.database.Execute(t, `begin;
		create type "VPStatus_new" as enum ('ONLINE', 'OFFLINE', 'BUSY', 'AWAY');
		alter table vps alter column status drop default;
		alter table vps alter column status type "VPStatus_new" using (status::text::"VPStatus_new");
		alter type "VPStatus" rename to "VPStatus_old";
		alter type "VPStatus_new" rename to "VPStatus";
		drop type "VPStatus_old";
		alter table vps alter column status set default 'OFFLINE';
		commit`)
	s.beat("vp_1", protocol.StatusBusy)
	s.await("vp_1", Busy)
}

// JSONbored/loopover#6728, apache/devlake#3564: PostgreSQL takes no zero in a text, and refuses all that is written
// with it, again and again.
func TestAnIDThatPostgreSQLCannotHoldHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := newStage(t, testserver.Postgres(t))
	e := s.edge("edge-1")
	s.writer("router-1", 0)
	for i := range 20 { // some in each partition
		e.hold(protocol.OrchestratorID(fmt.Sprintf("vp\x00%d", i)), protocol.SessionID(fmt.Sprintf("session-%d", i)))
	}
	s.beat("vp\x001", protocol.StatusBusy)
	e.hold("vp_1", "session-vp")
	s.await("vp_1", Online)
}
