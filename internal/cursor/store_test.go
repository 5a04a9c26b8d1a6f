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

// node is the store of an edge. What it tells other edges goes to them at once
// where they are known to one another.
type node struct {
	*Store
	js   jetstream.JetStream
	told atomic.Int64
}

// openStore returns the store of one more edge on the server, with this name.
func openStore(t testing.TB, s *testserver.NATSServer, partitions int, name string, others ...*node) *node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	defer cancel()
	cfg := settings.Default[eventlog.Config]()
	cfg.Partitions = partitions
	js, logger, reg := s.JetStream(), slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry()
	log, err := eventlog.Open(ctx, js, cfg, logger, reg)
	require.NoError(t, err)
	n := &node{js: js}
	n.Store = NewStore(log, Peers{Self: name, Tell: func(edge string, token event.Token) {
		n.told.Add(1)
		for _, other := range others {
			if other.peers.Self == edge {
				if err := other.Reload(context.WithoutCancel(t.Context()), token); err != nil {
					t.Error(err)
				}
			}
		}
	}}, logger, reg)
	_, err = reg.Gather()
	require.NoError(t, err)
	return n
}

// run runs the store until the test ends.
func run(t testing.TB, s *node) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// seat is a connection of a daemon at an edge.
type seat struct {
	*Writer
	request StartRequest

	mu         sync.Mutex
	at         Progress
	running    bool
	speaksFor  []protocol.DaemonID
	superseded bool
	recorded   [][]protocol.Subscription
}

func newSeat(s *node, token event.Token, daemon protocol.DaemonID, change ...func(*StartRequest)) *seat {
	c := &seat{request: StartRequest{
		Daemon: daemon, Edge: s.peers.Self, Subscriptions: subs("*"), Epoch: epoch0, Now: time.Now(),
		Alive: func(string) bool { return true },
	}}
	for _, f := range change {
		f(&c.request)
	}
	c.Writer = s.Writer(token, daemon, c)
	return c
}

// begin decides where the connection starts.
func (c *seat) begin(ctx context.Context) (Decision, error) {
	var decision Decision
	_, err := c.Begin(ctx, func(rec Record) (Record, Decision, bool) {
		next, d := Start(rec, c.request)
		return next, d, true
	}, func(d Decision) {
		decision = d
		c.mu.Lock()
		defer c.mu.Unlock()
		c.at, c.running, c.speaksFor = Progress{Epoch: c.request.Epoch, Entry: d.Entry}, true, d.Entry.AnswersFor
	})
	return decision, err
}

// connect is a connection that has begun.
func connect(t testing.TB, s *node, token event.Token, daemon protocol.DaemonID, change ...func(*StartRequest)) *seat {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	defer cancel()
	c := newSeat(s, token, daemon, change...)
	_, err := c.begin(ctx)
	require.NoError(t, err)
	return c
}

// moves reports that the daemon stands elsewhere.
func (c *seat) moves(floor uint64, change ...func(*Progress)) {
	c.mu.Lock()
	c.at.Entry.Floor, c.at.Entry.Written = floor, time.Now()
	for _, f := range change {
		f(&c.at)
	}
	c.mu.Unlock()
	c.SaveSoon()
}

func (c *seat) leaves() {
	progress, running := c.Progress()
	c.End(progress, running)
}

func (c *seat) Progress() (Progress, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.at
	c.at.Acked, c.at.Passed = nil, nil
	return at, c.running
}

func (c *seat) Recorded(wants []protocol.Subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at.Awaited = !Covers(wants, c.at.Entry.Subscriptions)
	c.recorded = append(c.recorded, wants)
}

func (c *seat) heard() [][]protocol.Subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recorded
}

func (c *seat) forgetHeard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recorded = nil
}

func (c *seat) AnswersFor(ids []protocol.DaemonID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.speaksFor, c.at.Entry.AnswersFor = ids, ids
}

func (c *seat) Superseded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.superseded = true
}

func (c *seat) isSuperseded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.superseded
}

func (c *seat) names() []protocol.DaemonID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.speaksFor
}

// stored reads the record as an edge that knows nothing.
func stored(t *testing.T, s *node, token event.Token) Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	defer cancel()
	rec := Record{}
	require.NoError(t, s.Update(ctx, token, func(read Record) (Record, bool) {
		rec = read
		return read, false
	}))
	return rec
}

func floors(rec Record) map[protocol.DaemonID]uint64 {
	m := map[protocol.DaemonID]uint64{}
	for id, e := range rec.Daemons {
		m[id] = e.Floor
	}
	return m
}

func writes(s *node, st status) float64 {
	return testutil.ToFloat64(s.metrics.writes.Of(st))
}

func (n *node) keys() (count int) {
	for _, p := range n.partitions {
		p.mu.Lock()
		count += len(p.keys)
		p.mu.Unlock()
	}
	return count
}

func TestStoreWritesWithinASecondOrAtOnce(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	a, b := openStore(t, server, 2, "a"), openStore(t, server, 2, "b")
	d, other := connect(t, a, orch, "d"), connect(t, a, "other", "d")
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 0}, floors(stored(t, b, orch)))
	for floor := range uint64(50) {
		d.moves(floor)
		other.moves(floor)
	}
	require.Equal(t, 2, a.dirty())
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 0}, floors(stored(t, b, orch)))
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 49}, floors(stored(t, a, orch)), "what is reported here counts here")

	require.NoError(t, a.flush(t.Context(), orch))
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 49}, floors(stored(t, b, orch)))
	require.InDelta(t, 3, writes(a, statusOK), 0, "many reports, one write")
	run(t, a)
	require.Eventually(t, func() bool { return a.dirty() == 0 }, waitTime, tick)
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 49}, floors(stored(t, b, "other")))

	d.moves(50)
	d.leaves()
	require.Eventually(t, func() bool { return stored(t, b, orch).Daemons["d"].Edge == "" }, waitTime, tick)
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 50}, floors(stored(t, b, orch)))
	d.moves(60)
	require.NoError(t, a.FlushAll(t.Context()))
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 50}, floors(stored(t, b, orch)), "after the last word nothing counts")
}

// TestStoresKeepEachOthersEntries: two edges hold daemons of one orchestrator
// and write at the same time. Without the expected revision one of the first
// rounds loses an entry (checked by leaving the header out of Store.write).
func TestStoresKeepEachOthersEntries(t *testing.T) {
	t.Parallel()
	const rounds = 100
	server := testserver.NATS(t)
	stores := []*node{openStore(t, server, 1, "a"), openStore(t, server, 1, "b")}
	var wait sync.WaitGroup
	for i, s := range stores {
		for d := range 2 {
			c := newSeat(s, orch, protocol.DaemonID(fmt.Sprintf("d%d%d", i, d)))
			wait.Go(func() {
				_, err := c.begin(t.Context())
				for floor := uint64(1); floor <= rounds && err == nil; floor++ {
					c.moves(floor, func(p *Progress) { p.Entry.Settled = []Range{{rounds + 2, rounds + 2 + floor}} })
					err = s.flush(t.Context(), orch)
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
	stores := []*node{openStore(t, server, 1, "a"), openStore(t, server, 1, "b")}
	old := connect(t, stores[0], orch, "old")
	old.moves(7)
	old.leaves()
	require.NoError(t, stores[0].FlushAll(t.Context()))
	var (
		wait       sync.WaitGroup
		successors atomic.Int64
	)
	for i := range 12 {
		c := newSeat(stores[i%2], orch, protocol.DaemonID(fmt.Sprintf("new%d", i)))
		wait.Go(func() {
			d, err := c.begin(t.Context())
			if err != nil || d.Entry.Floor != 7 {
				t.Errorf("%s starts at %d: %v", c.daemon, d.Entry.Floor, err)
			}
			if len(d.Entry.AnswersFor) > 0 {
				successors.Add(1)
			}
		})
	}
	wait.Wait()
	require.Equal(t, int64(1), successors.Load())
	rec := stored(t, stores[0], orch)
	require.Len(t, rec.Daemons, 12)
	require.NotContains(t, rec.Daemons, protocol.DaemonID("old"))
}

// TestSupersededWriter keeps invariant 1: what an older connection of a daemon
// writes after a newer one has begun settles nothing but what was acknowledged
// on it. The newer one may want what the older one has passed over.
func TestSupersededWriter(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	a := openStore(t, server, 1, "a")
	b := openStore(t, server, 1, "b", a)
	older := connect(t, a, orch, "d")
	newer := connect(t, b, orch, "d")
	require.True(t, older.isSuperseded(), "it is told, on whichever edge it is")
	older.moves(40, func(p *Progress) { p.Acked = []Range{{3, 4}} })
	require.NoError(t, a.FlushAll(t.Context()))
	rec := stored(t, b, orch)
	require.Equal(t, uint64(0), rec.Daemons["d"].Floor)
	require.Equal(t, []Range{{3, 4}}, rec.Daemons["d"].Settled)
	older.leaves()
	require.NoError(t, a.FlushAll(t.Context()))
	require.Equal(t, "b", stored(t, b, orch).Daemons["d"].Edge)
	newer.moves(2)
	require.NoError(t, b.FlushAll(t.Context()))
	require.Equal(t, uint64(4), stored(t, b, orch).Daemons["d"].Floor, "with what was acknowledged on the older one")

	again := connect(t, b, orch, "d")
	require.True(t, newer.isSuperseded(), "also on the same edge")
	require.False(t, again.isSuperseded())
}

// TestReturn: whoever was taken over gets its name back with its start, and the
// other learns of it at once.
func TestReturn(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	a := openStore(t, server, 1, "a")
	b := openStore(t, server, 1, "b", a)
	d := connect(t, b, orch, "d")
	d.leaves()
	require.NoError(t, b.FlushAll(t.Context()))
	newcomer := connect(t, a, orch, "new")
	require.Equal(t, ids("d"), newcomer.names())
	connect(t, b, orch, "d")
	require.Empty(t, newcomer.names())
	require.Equal(t, int64(1), b.told.Load())
	newcomer.moves(9)
	require.NoError(t, a.FlushAll(t.Context()))
	require.Empty(t, stored(t, b, orch).Daemons["new"].AnswersFor, "its writes do not bring the name back")
}

// TestTakenOverWhileItLives: the directory of a newcomer's edge did not show the
// daemon's. The daemon hears of it and is put back; if the hint is lost, its next
// write does it.
func TestTakenOverWhileItLives(t *testing.T) {
	t.Parallel()
	blind := func(r *StartRequest) { r.Alive = func(string) bool { return false } }
	for name, hinted := range map[string]bool{"hint": true, "lost": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.NATS(t)
			a := openStore(t, server, 1, "a")
			others := []*node{a}
			if !hinted {
				others = nil
			}
			b := openStore(t, server, 1, "b", others...)
			d := connect(t, a, orch, "d")
			newcomer := connect(t, b, orch, "new", blind)
			require.Equal(t, ids("d"), newcomer.names())
			if !hinted {
				require.NotContains(t, stored(t, b, orch).Daemons, protocol.DaemonID("d"))
				d.moves(3)
				require.NoError(t, a.FlushAll(t.Context()))
			}
			rec := stored(t, b, orch)
			require.Contains(t, rec.Daemons, protocol.DaemonID("d"))
			require.Empty(t, rec.Daemons["new"].AnswersFor)
			require.NoError(t, b.Reload(t.Context(), orch))
			require.Empty(t, newcomer.names())
		})
	}
}

// TestStartOfAConnectionThatHasEnded: it decides nothing, and nothing of it
// stays, neither here nor in the record.
func TestStartOfAConnectionThatHasEnded(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	s := openStore(t, server, 1, "a")
	before := newSeat(s, orch, "d")
	before.leaves()
	_, err := before.begin(t.Context())
	require.ErrorIs(t, err, ErrEnded)
	require.Empty(t, stored(t, s, orch).Daemons)

	during := newSeat(s, orch, "d")
	decided := make(chan bool, 1)
	writing := s.partitions[0].writing
	for range cap(writing) {
		writing <- struct{}{} // no write comes through
	}
	began := make(chan error, 1)
	go func() {
		_, err := during.Begin(context.Background(), func(rec Record) (Record, Decision, bool) {
			next, d := Start(rec, during.request)
			decided <- true
			return next, d, true
		}, func(Decision) { t.Error("it has ended") })
		began <- err
	}()
	<-decided
	require.Eventually(t, func() bool {
		p := during.partition
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(during.attempts) > 0
	}, waitTime, tick)
	during.leaves()
	for range cap(writing) {
		<-writing
	}
	require.ErrorIs(t, <-began, ErrEnded)
	require.NoError(t, s.FlushAll(t.Context()))
	require.Contains(t, stored(t, s, orch).Daemons, protocol.DaemonID("d"))
	require.Equal(t, "", stored(t, s, orch).Daemons["d"].Edge, "it has left")
	require.Zero(t, s.keys())

	refused := newSeat(s, orch, "d")
	did, err := refused.Begin(t.Context(), func(rec Record) (Record, Decision, bool) { return rec, Decision{}, false }, nil)
	require.NoError(t, err)
	require.False(t, did)
	require.Zero(t, s.keys())
	refused.leaves()
	require.NoError(t, s.Reload(t.Context(), orch))
	require.Zero(t, s.keys())
}

// A start whose answer was lost may be stored; when its connection has ended
// meanwhile, the entry says so all the same.
func TestStartThatMayBeStored(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	s := openStore(t, server, 1, "a")
	c := newSeat(s, orch, "d")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Begin(ctx, func(rec Record) (Record, Decision, bool) {
		next, d := Start(rec, c.request)
		data, err := next.Encode()
		if err != nil {
			t.Error(err)
		}
		put(t, s, orch, string(data)) // as if by this very write
		cancel()
		return next, d, true
	}, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "a", stored(t, s, orch).Daemons["d"].Edge)
	c.leaves()
	require.NoError(t, s.FlushAll(t.Context()))
	require.Equal(t, "", stored(t, s, orch).Daemons["d"].Edge)
	require.Zero(t, s.keys())
}

// Invariant 4: where a bucket can be read and not be written, as a full one, starts are
// tried for as long as that lasts.
func TestStartsThatAreNeverWrittenTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1, "a")
	c := newSeat(s, orch, "d")
	for generation := range uint64(100 * maxAttempts) {
		require.True(t, c.attempt(generation, Record{}))
	}
	require.Len(t, c.attempts, maxAttempts)
	require.EqualValues(t, 100*maxAttempts-1, c.attempts[maxAttempts-1].generation, "the last may be stored")
}

// A start that was given up while its write was under way may be stored later than
// the last word of its connection. Nobody would take it for gone then, since the
// edge lives.
func TestAStartThatWasGivenUpIsNotStoredLater(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	s := openStore(t, server, 1, "a")
	for name, before := range map[string]func(event.Token){
		"an orchestrator never seen": func(event.Token) {},
		"another daemon is known":    func(orch event.Token) { connect(t, s, orch, "e").leaves() },
	} {
		orch := event.TokenOf(name)
		before(orch)
		require.NoError(t, s.FlushAll(t.Context()))
		c := newSeat(s, orch, "d")
		ctx, cancel := context.WithCancel(t.Context())
		var underway []byte
		var from uint64
		_, err := c.Begin(ctx, func(rec Record) (Record, Decision, bool) {
			next, d := Start(rec, c.request)
			underway, _ = next.Encode()
			from = rec.Revision
			cancel()
			return next, d, true
		}, nil)
		require.ErrorIs(t, err, context.Canceled, name)
		c.leaves()
		require.NoError(t, s.FlushAll(t.Context()))
		_, err = s.js.Publish(t.Context(), s.partition(orch).subject(orch), underway, jetstream.WithExpectLastSequencePerSubject(from))
		require.True(t, isConflict(err), "%s: it comes too late: %v", name, err)
		require.NotContains(t, stored(t, s, orch).Daemons, protocol.DaemonID("d"), name)
	}
}

// Another connection's start may take names from one that has just begun. Told in
// the other order, it would go on answering for them.
func TestNobodyWritesBeforeAConnectionKnowsThatItHasBegun(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	s := openStore(t, server, 1, "a")
	connect(t, s, orch, "old").leaves()
	c := newSeat(s, orch, "new")
	started := false
	_, err := c.Begin(t.Context(), func(rec Record) (Record, Decision, bool) {
		next, d := Start(rec, c.request)
		return next, d, true
	}, func(d Decision) {
		started = true
		require.Equal(t, []protocol.DaemonID{"old"}, d.Entry.AnswersFor)
		c.partition.mu.Lock()
		defer c.partition.mu.Unlock()
		require.Len(t, c.partition.keys[orch].busy, 1, "the record is held")
	})
	require.NoError(t, err)
	require.True(t, started)
	connect(t, s, orch, "old")
	require.Empty(t, c.names())
}

// A crash must not make a daemon want less than it has said.
func TestSaveNowDoesNotWaitForItsMoment(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	s := openStore(t, server, 1, "a")
	c := connect(t, s, orch, "d")
	c.SaveSoon()
	require.Empty(t, s.schedule.takeHurried())
	c.SaveNow() // also where it is dirty already
	require.Equal(t, []event.Token{orch}, s.schedule.takeHurried())
}

// Invariant 1: what a daemon is told that it has subscribed to is in the record. What
// was read of that may be older, as while a replica lags: only a write shows it.
func TestADaemonHearsThatItsWishesAreRecordedOnceTheyAreWritten(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1, "here")
	run(t, s)
	c := connect(t, s, orch, "d", func(r *StartRequest) { r.Subscriptions = subs("a.*") })
	c.moves(1)
	require.Eventually(t, func() bool { return floors(stored(t, s, orch))["d"] == 1 }, waitTime, tick)
	require.Empty(t, c.heard())

	wants := func(patterns ...protocol.Pattern) {
		before := writes(s, statusOK)
		c.moves(2, func(p *Progress) { p.Entry.Subscriptions, p.Awaited = subs(patterns...), true })
		c.SaveNow()
		require.Eventually(t, func() bool { return len(c.heard()) > 0 }, waitTime, tick)
		require.Equal(t, [][]protocol.Subscription{subs(patterns...)}, c.heard())
		require.True(t, Covers(stored(t, s, orch).Daemons["d"].Subscriptions, subs(patterns...)))
		require.Equal(t, before+1, writes(s, statusOK))
		c.forgetHeard()
	}
	wants("a.*", "b.*")
	wants("a.*", "b.*")
}

func TestStoreOutlivesNATS(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	a, b := openStore(t, server, 2, "a"), openStore(t, server, 2, "b")
	d := connect(t, a, orch, "d")
	var many []*seat
	for i := range 200 {
		many = append(many, connect(t, a, event.Token(fmt.Sprintf("t%d", i)), "d"))
	}
	server.Shutdown()

	d.moves(5)
	require.Error(t, a.flush(t.Context(), orch))
	run(t, a)
	failedReads := a.metrics.reads.Of(statusError)
	require.Eventually(t, func() bool { return testutil.ToFloat64(failedReads) > 1 }, waitTime, tick, "Run goes on trying")
	require.InDelta(t, 1, writes(a, statusError), 0, "after a failed write the store is read first")
	d.moves(6, func(p *Progress) { p.Entry.Settled = []Range{{9, 9}} })
	require.Equal(t, 1, a.dirty())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, a.FlushAll(ended), context.Canceled)
	_, err := newSeat(b, orch, "x").begin(ended)
	require.ErrorIs(t, err, context.Canceled)
	for _, c := range many {
		c.leaves()
	}
	require.Equal(t, 201, a.dirty(), "last words are kept, and each once")

	began := make(chan Decision, 1)
	go func() {
		d, err := newSeat(a, "waiting", "w").begin(context.Background())
		if err != nil {
			t.Error(err)
		}
		began <- d
	}()
	server.Start()
	require.Positive(t, (<-began).Entry.Generation, "Begin waits for NATS")
	require.Eventually(t, func() bool { return a.dirty() == 0 }, waitTime, tick)
	rec := stored(t, b, orch)
	require.Equal(t, uint64(6), rec.Daemons["d"].Floor)
	require.Equal(t, []Range{{9, 9}}, rec.Daemons["d"].Settled)
	for _, c := range many {
		require.Empty(t, stored(t, b, c.token).Daemons["d"].Edge)
	}
}

// The last flush in the middle of a restart waits for what is under way, and
// writes all of it.
func TestFlushAllOutlivesARestart(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	s := openStore(t, server, 2, "a")
	run(t, s)
	var seats []*seat
	for i := range 200 {
		seats = append(seats, connect(t, s, event.Token(fmt.Sprintf("t%d", i)), "d"))
	}
	for round := range uint64(2) {
		for _, c := range seats {
			c.moves(round + 1)
		}
		flushed := make(chan error, 1)
		go func() { flushed <- s.FlushAll(context.Background()) }()
		server.Restart()
		require.NoError(t, <-flushed)
	}
	for _, c := range seats {
		require.Equal(t, uint64(2), stored(t, s, c.token).Daemons["d"].Floor)
	}
}

// A storm of 2,000 connections is read at once by those who come while one read is
// under way.
func TestManyBeginsAreFewReads(t *testing.T) {
	t.Parallel()
	const others = 2000
	s := openStore(t, testserver.NATS(t), 1, "a")
	reads := &s.partitions[0].reads
	fetch, asked, answer := reads.fetch, make(chan struct{}, others), make(chan struct{})
	reads.fetch = func(ctx context.Context, subjects []string) (map[string]eventlog.Stored, error) {
		asked <- struct{}{}
		<-answer
		return fetch(ctx, subjects)
	}
	var wait sync.WaitGroup
	begin := func(name string) {
		c := newSeat(s, event.Token(name), "d")
		wait.Go(func() {
			if _, err := c.begin(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	begin("first")
	<-asked
	for i := range others {
		begin(fmt.Sprintf("o%d", i))
	}
	require.Eventually(t, func() bool { return reads.gathering() == others }, waitTime, tick)
	close(answer)
	wait.Wait()
	require.InDelta(t, 2, testutil.ToFloat64(s.metrics.reads.Of(statusOK)), 0)
	require.InDelta(t, others+1, writes(s, statusOK), 0)
}

// gathering is how many wait for the next read.
func (g *gatherer) gathering() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		return 0
	}
	return len(g.open.subjects)
}

// Each orchestrator has its own moment of the second: what is reported at once
// is not written at once, and nothing waits for longer.
func TestWritesAreSpreadOverTheSecond(t *testing.T) {
	t.Parallel()
	s := newSchedule(16)
	const tokens = 10_000
	for i := range tokens {
		s.add(event.Token(fmt.Sprint(i)))
		s.add(event.Token(fmt.Sprint(i)))
	}
	total := 0
	for moment := range moments {
		due := s.take(moment)
		require.InDelta(t, tokens/moments, len(due), 100)
		total += len(due)
	}
	require.Equal(t, tokens, total)
}

func put(t *testing.T, s *node, token event.Token, text string) {
	t.Helper()
	_, err := s.js.Publish(t.Context(), s.partition(token).subject(token), []byte(text))
	require.NoError(t, err)
}

func TestStoreEpochs(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	a, b := openStore(t, server, 1, "a"), openStore(t, server, 1, "b")
	d, e := connect(t, a, orch, "d"), connect(t, b, orch, "e")
	flush := func(c *seat, epoch eventlog.Epoch, floor uint64) Record {
		c.moves(floor, func(p *Progress) { p.Epoch = epoch })
		require.NoError(t, c.store.FlushAll(t.Context()))
		return stored(t, a, orch)
	}
	flush(d, epoch0, 30)
	rec := flush(e, epoch1, 2)
	require.Equal(t, epoch1, rec.Epoch)
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 0, "e": 2}, floors(rec), "a newer epoch replaces")
	require.Equal(t, subs("*"), rec.Daemons["d"].Subscriptions)
	rec = flush(d, epoch0, 40)
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 0, "e": 2}, floors(rec), "an older one is ignored")
}

// TestUnreadableRecords: nothing is known of what stood there, so nothing is
// passed by (invariant 1).
func TestUnreadableRecords(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1, "a")
	put(t, s, orch, "nonsense")
	d := connect(t, s, orch, "d", func(r *StartRequest) { r.Subscriptions = subs("a.*") })
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 0}, floors(stored(t, s, orch)))
	d.moves(90)
	require.NoError(t, s.FlushAll(t.Context()))
	connect(t, s, orch, "e")
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 90, "e": 0}, floors(stored(t, s, orch)))
	require.InDelta(t, 1, testutil.ToFloat64(s.metrics.malformed), 0)

	newer := connect(t, s, "newer", "d")
	put(t, s, "newer", `{"v":2}`)
	_, err := newSeat(s, "newer", "d").begin(t.Context())
	require.ErrorIs(t, err, ErrVersion)
	newer.moves(1)
	require.ErrorIs(t, s.flush(t.Context(), "newer"), ErrVersion)

	kv, err := s.js.KeyValue(t.Context(), eventlog.CursorBucket(0))
	require.NoError(t, err)
	require.NoError(t, kv.Delete(t.Context(), string(orch)))
	connect(t, s, orch, "f")
	require.Equal(t, uint64(0), stored(t, s, orch).Daemons["f"].Floor, "deleted")
	entry, err := kv.Get(t.Context(), string(orch))
	require.NoError(t, err)
	require.Equal(t, jetstream.KeyValuePut, entry.Operation(), "what is stored is a KV entry")
}

func TestStoreKeepsNothingOfWhoHasLeft(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1, "a")
	d, e := connect(t, s, orch, "d"), connect(t, s, orch, "e")
	d.moves(5)
	d.leaves()
	require.Equal(t, 1, s.keys(), "not before it is written")
	require.NoError(t, s.FlushAll(t.Context()))
	require.Equal(t, 1, s.keys(), "nor while another is there")
	e.leaves()
	require.NoError(t, s.FlushAll(t.Context()))
	require.Zero(t, s.keys())
	require.Equal(t, uint64(5), stored(t, s, orch).Daemons["d"].Floor)
	require.NoError(t, s.flush(t.Context(), "unknown"))
	require.Zero(t, s.keys())
}

func TestStoreRefreshesIdleEntries(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1, "a")
	d := connect(t, s, orch, "d")
	at := time.Now()
	for i, want := range []float64{1, 1, 2, 2} {
		d.moves(0, func(p *Progress) { p.Entry.Written = at })
		require.NoError(t, s.FlushAll(t.Context()))
		require.InDelta(t, want, writes(s, statusOK), 0, "report %d", i)
		at = at.Add(refreshAfter/2 + time.Minute)
	}
}

// TestResumeOverridesWhatIsRemembered: what this edge has yet to write of the
// daemon's former connection does not lift the floor that Start has lowered.
func TestResumeOverridesWhatIsRemembered(t *testing.T) {
	t.Parallel()
	s := openStore(t, testserver.NATS(t), 1, "a")
	connect(t, s, orch, "d").moves(50)
	d := connect(t, s, orch, "d", func(r *StartRequest) { r.Resume, r.HasResume = 20, true })
	require.Equal(t, uint64(20), stored(t, s, orch).Daemons["d"].Floor)
	require.Zero(t, s.dirty())
	d.moves(21)
	require.NoError(t, s.FlushAll(t.Context()))
	require.Equal(t, uint64(21), stored(t, s, orch).Daemons["d"].Floor)
}

// TestTakenOverAfterItWasReplaced: the edge of an older connection stood still
// while a newer one began and left, and a newcomer took the daemon over. What the
// older one has passed over since must not count for the daemon when it returns.
func TestTakenOverAfterItWasReplaced(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	a, b := openStore(t, server, 1, "a"), openStore(t, server, 1, "b")
	older := connect(t, a, orch, "d")
	connect(t, b, orch, "d").leaves()
	require.NoError(t, b.FlushAll(t.Context()))
	newcomer := connect(t, b, orch, "new")
	require.Equal(t, ids("d"), newcomer.names())
	require.NoError(t, a.Reload(t.Context(), orch))
	older.moves(40)
	require.NoError(t, a.FlushAll(t.Context()))
	rec := stored(t, b, orch)
	require.NotContains(t, rec.Daemons, protocol.DaemonID("d"))
	require.Equal(t, ids("d"), rec.Daemons["new"].AnswersFor)
	require.True(t, older.isSuperseded())
	d, err := newSeat(b, orch, "d").begin(t.Context())
	require.NoError(t, err)
	require.Zero(t, d.Entry.Floor)
}

// TestGenerationsRiseThoughTheirBucketIsLost: older connections write on, and a
// newer one must not come after them.
func TestGenerationsRiseThoughTheirBucketIsLost(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	a := openStore(t, server, 1, "a")
	connect(t, a, orch, "d")
	older := connect(t, a, orch, "d")
	require.NoError(t, server.JetStream().DeleteKeyValue(t.Context(), eventlog.CursorBucket(0)))
	b := openStore(t, server, 1, "b", a)
	newer := connect(t, b, orch, "d")
	older.moves(40)
	require.NoError(t, a.FlushAll(t.Context()))
	require.True(t, older.isSuperseded())
	require.NoError(t, b.Reload(t.Context(), orch))
	require.False(t, newer.isSuperseded())
	require.Equal(t, map[protocol.DaemonID]uint64{"d": 0}, floors(stored(t, b, orch)))
}
