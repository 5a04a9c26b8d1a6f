package cursor

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	waitTime = testserver.Patience
	tick     = 10 * time.Millisecond
	orch     = event.Token("orchestrator")
)

// openStore returns the store of one more node on the server.
func openStore(t *testing.T, s *testserver.NATSServer, partitions int) *Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	defer cancel()
	cfg := settings.Default[eventlog.Config]()
	cfg.Partitions = partitions
	js, logger, reg := s.JetStream(), slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry()
	log, err := eventlog.Open(ctx, js, cfg, logger, reg)
	require.NoError(t, err)
	store := NewStore(log, js, logger, reg)
	_, err = reg.Gather()
	require.NoError(t, err)
	return store
}

// run runs the store until the test ends.
func run(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// starting returns what decides for a daemon; connected may be nil.
func starting(daemon protocol.DaemonID, change ...func(*StartRequest)) func(Record) (Record, bool) {
	req := StartRequest{
		Daemon: daemon, Subscriptions: subs("*"), Epoch: epoch0, Now: time.Now(),
		Connected: func(protocol.DaemonID) bool { return true },
	}
	for _, f := range change {
		f(&req)
	}
	return func(rec Record) (Record, bool) {
		next, _ := Start(rec, req)
		return next, true
	}
}

func begin(t *testing.T, s *Store, token event.Token, decide func(Record) (Record, bool)) Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	defer cancel()
	rec, err := s.Begin(ctx, token, decide)
	require.NoError(t, err)
	return rec
}

// stored reads the record as another node would.
func stored(t *testing.T, s *Store, token event.Token) Record {
	t.Helper()
	rec := Record{}
	begin(t, s, token, func(read Record) (Record, bool) {
		rec = read
		return read, false
	})
	return rec
}

func floors(rec Record) map[protocol.DaemonID]uint64 {
	m := map[protocol.DaemonID]uint64{}
	for id, e := range rec.Daemons {
		m[id] = e.Floor
	}
	return m
}

func writes(s *Store, st status) float64 {
	return testutil.ToFloat64(s.metrics.writes.Of(st))
}

func TestStoreSavesWithinASecondOrAtOnce(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	a, b := openStore(t, server, 2), openStore(t, server, 2)
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 0}, floors(begin(t, a, orch, starting("d"))))
	for floor := range uint64(50) {
		a.Save(orch, epoch0, "d", Entry{Floor: floor})
		a.Save("other", epoch0, "d", Entry{Floor: floor})
	}
	require.Equal(t, 2, a.dirty())
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 0}, floors(stored(t, b, orch)))
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 49}, floors(stored(t, a, orch)), "what is saved here counts here")

	require.NoError(t, a.Flush(t.Context(), orch))
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 49}, floors(stored(t, b, orch)))
	require.InDelta(t, 2, writes(a, statusOK), 0, "many saves, one write")
	run(t, a)
	require.Eventually(t, func() bool { return a.dirty() == 0 }, waitTime, tick)
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 49}, floors(stored(t, b, "other")))

	a.Save(orch, epoch0, "d", Entry{Floor: 7})
	require.NoError(t, a.Flush(t.Context(), orch))
	require.Equal(t, uint64(49), stored(t, b, orch).Daemons["d"].Floor, "never lower")
	require.NoError(t, a.Flush(t.Context(), "unknown"))
}

// TestStoresKeepEachOthersEntries: two edges hold daemons of one orchestrator
// and write at the same time. Without the expected revision one of the first
// rounds loses an entry (checked by leaving the header out of Store.write).
func TestStoresKeepEachOthersEntries(t *testing.T) {
	t.Parallel()
	const rounds = 100
	server := testserver.NATS(t)
	stores := []*Store{openStore(t, server, 1), openStore(t, server, 1)}
	var wait sync.WaitGroup
	for i, s := range stores {
		for d := range 2 {
			id := protocol.DaemonID(fmt.Sprintf("d%d%d", i, d))
			wait.Go(func() {
				_, err := s.Begin(t.Context(), orch, starting(id))
				for floor := uint64(1); floor <= rounds && err == nil; floor++ {
					s.Save(orch, epoch0, id, Entry{Floor: floor, Settled: []Range{{rounds + 2, rounds + 2 + floor}}})
					err = s.Flush(t.Context(), orch)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	wait.Wait()
	rec := stored(t, stores[0], orch)
	require.Equal(t, map[protocol.DaemonID]uint64{"d00": rounds, "d01": rounds, "d10": rounds, "d11": rounds}, floors(rec))
	require.Equal(t, []Range{{rounds + 2, 2*rounds + 2}}, rec.Daemons["d10"].Settled)
	conflicts := testutil.ToFloat64(stores[0].metrics.conflicts) + testutil.ToFloat64(stores[1].metrics.conflicts)
	require.Positive(t, conflicts)
	require.InDelta(t, conflicts, writes(stores[0], statusConflict)+writes(stores[1], statusConflict), 0)
}

// TestTakeoverIsAtomic: many newcomers on two edges want to succeed the same
// daemon; one does, and nobody's entry is lost.
func TestTakeoverIsAtomic(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	stores := []*Store{openStore(t, server, 1), openStore(t, server, 1)}
	stores[0].Save(orch, epoch0, "old", Entry{Floor: 7, Subscriptions: subs("a.*"), AnswersFor: ids("older"), Left: true})
	require.NoError(t, stores[0].Flush(t.Context(), orch))
	var (
		wait       sync.WaitGroup
		successors atomic.Int64
	)
	for i := range 12 {
		wait.Go(func() {
			id := protocol.DaemonID(fmt.Sprintf("new%d", i))
			rec, err := stores[i%2].Begin(t.Context(), orch, starting(id, func(r *StartRequest) {
				r.Connected = func(id protocol.DaemonID) bool { return id != "old" }
			}))
			if err != nil || rec.Daemons[id].Floor != 7 {
				t.Errorf("%s starts at %d: %v", id, rec.Daemons[id].Floor, err)
			}
			if len(rec.Daemons[id].AnswersFor) > 0 {
				successors.Add(1)
			}
		})
	}
	wait.Wait()
	require.Equal(t, int64(1), successors.Load())
	rec := stored(t, stores[0], orch)
	require.Len(t, rec.Daemons, 12)
	require.NotContains(t, rec.Daemons, protocol.DaemonID("old"))

	// The directory was wrong: the old daemon lives and saves.
	stores[0].Save(orch, epoch0, "old", Entry{Floor: 9})
	require.NoError(t, stores[0].Flush(t.Context(), orch))
	require.Equal(t, uint64(9), stored(t, stores[1], orch).Daemons["old"].Floor)
}

func TestStoreOutlivesNATS(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	a, b := openStore(t, server, 2), openStore(t, server, 2)
	begin(t, a, orch, starting("d"))
	server.Shutdown()

	a.Save(orch, epoch0, "d", Entry{Floor: 5})
	require.Error(t, a.Flush(t.Context(), orch))
	run(t, a)
	failedReads := a.metrics.reads.Of(statusError)
	require.Eventually(t, func() bool { return testutil.ToFloat64(failedReads) > 1 }, waitTime, tick, "Run goes on trying")
	require.InDelta(t, 1, writes(a, statusError), 0, "after a failed write the store is read first")
	a.Save(orch, epoch0, "d", Entry{Floor: 6, Settled: []Range{{9, 9}}})
	require.Equal(t, 1, a.dirty())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, a.FlushAll(ended), context.Canceled)
	_, err := b.Begin(ended, orch, starting("x"))
	require.ErrorIs(t, err, context.Canceled)

	began := make(chan Record, 1)
	go func() {
		rec, err := a.Begin(context.Background(), "waiting", starting("w"))
		if err != nil {
			t.Error(err)
		}
		began <- rec
	}()
	server.Start()
	require.Contains(t, (<-began).Daemons, protocol.DaemonID("w"), "Begin waits for NATS")
	require.Eventually(t, func() bool { return a.dirty() == 0 }, waitTime, tick)
	rec := stored(t, b, orch)
	require.Equal(t, uint64(6), rec.Daemons["d"].Floor)
	require.Equal(t, []Range{{9, 9}}, rec.Daemons["d"].Settled)

	// In the middle of writing.
	const tokens = 200
	for round := range uint64(2) {
		for i := range tokens {
			a.Save(event.Token(fmt.Sprintf("t%d", i)), epoch0, "d", Entry{Floor: round + 1})
		}
		flushed := make(chan error, 1)
		go func() { flushed <- a.FlushAll(context.Background()) }()
		server.Restart()
		require.NoError(t, <-flushed)
	}
	for i := range tokens {
		require.Equal(t, uint64(2), stored(t, b, event.Token(fmt.Sprintf("t%d", i))).Daemons["d"].Floor)
	}
}

// TestManyBeginsAreFewRequests: a storm of 2,000 connections is read with as
// many requests as they fill.
func TestManyBeginsAreFewRequests(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1)
	s.partitions[0].reads.delay = waitTime // the batches fill
	var wait sync.WaitGroup
	for i := range 2 * gatherMax {
		wait.Go(func() {
			token := event.Token(fmt.Sprintf("o%d", i))
			rec, err := s.Begin(t.Context(), token, starting("d"))
			if err != nil || len(rec.Daemons) != 1 {
				t.Errorf("%s: %v, %v", token, rec, err)
			}
		})
	}
	wait.Wait()
	require.InDelta(t, 2, testutil.ToFloat64(s.metrics.reads.Of(statusOK)), 0)
	require.InDelta(t, 2*gatherMax, writes(s, statusOK), 0)
}

func put(t *testing.T, s *Store, token event.Token, text string) {
	t.Helper()
	_, err := s.js.Publish(t.Context(), s.partition(token).subject(token), []byte(text))
	require.NoError(t, err)
}

func TestStoreEpochs(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	a, b := openStore(t, server, 1), openStore(t, server, 1)
	begin(t, a, orch, starting("d"))
	begin(t, b, orch, starting("e"))
	flush := func(s *Store, epoch eventlog.Epoch, id protocol.DaemonID, floor uint64) Record {
		s.Save(orch, epoch, id, Entry{Floor: floor})
		require.NoError(t, s.Flush(t.Context(), orch))
		require.Zero(t, s.dirty())
		return stored(t, a, orch)
	}
	flush(a, epoch0, "d", 30)
	rec := flush(b, epoch1, "e", 2)
	require.Equal(t, epoch1, rec.Epoch)
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 0, "e": 2}, floors(rec), "a newer epoch replaces")
	require.Equal(t, subs("*"), rec.Daemons["d"].Subscriptions)
	rec = flush(a, epoch0, "d", 40)
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 0, "e": 2}, floors(rec), "an older one is ignored")
}

// TestUnreadableRecords: nothing is known of what stood there, so nothing is
// passed by (invariant 1).
func TestUnreadableRecords(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1)
	put(t, s, orch, "nonsense")
	rec := begin(t, s, orch, starting("d", func(r *StartRequest) { r.Subscriptions = subs("a.*") }))
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 0, Remainder: 0}, floors(rec))
	s.Save(orch, epoch0, "d", Entry{Floor: 90})
	require.NoError(t, s.Flush(t.Context(), orch))
	rec = begin(t, s, orch, starting("e"))
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 90, "e": 0}, floors(rec))
	require.InDelta(t, 1, testutil.ToFloat64(s.metrics.malformed), 0)

	put(t, s, "newer", `{"v":2}`)
	_, err := s.Begin(t.Context(), "newer", starting("d"))
	require.ErrorIs(t, err, ErrVersion)
	s.Save("newer", epoch0, "d", Entry{Floor: 1})
	require.ErrorIs(t, s.Flush(t.Context(), "newer"), ErrVersion)

	kv, err := s.js.KeyValue(t.Context(), eventlog.CursorBucket(0))
	require.NoError(t, err)
	require.NoError(t, kv.Delete(t.Context(), string(orch)))
	require.Equal(t, map[protocol.DaemonID]uint64{"f": 0}, floors(begin(t, s, orch, starting("f"))), "deleted")
	entry, err := kv.Get(t.Context(), string(orch))
	require.NoError(t, err)
	require.Equal(t, jetstream.KeyValuePut, entry.Operation(), "what is stored is a KV entry")
}

func TestStoreForgets(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1)
	begin(t, s, orch, starting("d"))
	s.Save(orch, epoch0, "d", Entry{Floor: 5})
	s.Forget(orch)
	s.Forget("unknown")
	require.Len(t, s.partitions[0].keys, 1, "not before it is written")
	require.NoError(t, s.FlushAll(t.Context()))
	require.Empty(t, s.partitions[0].keys)
	require.Equal(t, uint64(5), stored(t, s, orch).Daemons["d"].Floor)
	s.Forget(orch)
	require.Empty(t, s.partitions[0].keys)
}

func TestStoreRefreshesIdleEntries(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1)
	at := now
	s.now = func() time.Time { return at }
	for i, want := range []float64{1, 1, 1, 2} {
		s.Save(orch, epoch0, "d", Entry{Floor: 5, Subscriptions: subs("*")})
		require.NoError(t, s.Flush(t.Context(), orch))
		require.InDelta(t, want, writes(s, statusOK), 0, "save %d", i)
		at = at.Add(refreshAfter/2 - time.Minute)
	}
}

// TestResumeOverridesWhatIsRemembered: what this node remembered of the
// daemon's former connection does not lift the floor that Start has lowered.
func TestResumeOverridesWhatIsRemembered(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1)
	begin(t, s, orch, starting("d"))
	s.Save(orch, epoch0, "d", Entry{Floor: 50})
	rec := begin(t, s, orch, starting("d", func(r *StartRequest) { r.Resume, r.HasResume = 20, true }))
	require.Equal(t, uint64(20), rec.Daemons["d"].Floor)
	require.Zero(t, s.dirty())
	s.Save(orch, epoch0, "d", Entry{Floor: 21})
	require.NoError(t, s.Flush(t.Context(), orch))
	require.Equal(t, uint64(21), stored(t, s, orch).Daemons["d"].Floor)
}
