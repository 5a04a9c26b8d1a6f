package cursor

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// lostRecord is that of an orchestrator whose record was lost while "b", which wants
// b.*, was connected, and has settled all up to 40.
func lostRecord() Record {
	return Record{}.Apply("b", Progress{Epoch: epoch0, Entry: of(9, 40, there, wants("b.*"))})
}

// comes has a daemon begin, and returns the record and where it does.
func comes(rec Record, id protocol.DaemonID, wanted []protocol.Subscription, change ...func(*StartRequest)) (Record, Decision) {
	req := StartRequest{
		Daemon: id, Edge: here, Subscriptions: wanted, Epoch: epoch0, Now: now.Add(time.Minute), Alive: alive, MaxAge: time.Hour,
	}
	for _, f := range change {
		f(&req)
	}
	return Start(rec, req)
}

// settles has a daemon settle all up to a sequence.
func settles(rec Record, id protocol.DaemonID, floor uint64, change ...func(*Progress)) Record {
	p := Progress{Epoch: epoch0, Entry: rec.Daemons[id]}
	p.Entry.Floor, p.Entry.Settled, p.Entry.Unnamed = floor, nil, 0
	for _, f := range change {
		f(&p)
	}
	return rec.Apply(id, p)
}

// Invariant 1: the record was lost, and one daemon that was connected was put back. What
// the others wanted, and it did not, it has passed over.
func TestWhoIsMissingInARecordThatWasLostLooksAtEverything(t *testing.T) {
	t.Parallel()
	rec, d := comes(lostRecord(), "a", subs("a.*"))
	require.Zero(t, d.Entry.Floor)
	require.Empty(t, d.Entry.Settled)
	require.Zero(t, d.Entry.Unnamed)
	require.False(t, d.Resumed)
	_, d = comes(rec, "b", subs("b.*"))
	require.EqualValues(t, 40, d.Entry.Floor, "who has its entry goes on from there")
	_, d = comes(rec, "c", subs("b.*", "a.*"))
	require.Zero(t, d.Entry.Floor, "of what it wants nobody has looked for all")
	_, d = comes(rec, "c", subs("a.*"), func(r *StartRequest) { r.Resume, r.HasResume = 30, true })
	require.EqualValues(t, 30, d.Entry.Floor, "a position says it all")
}

// What others have looked for comes to a newcomer as to any: it is not sent for ever what
// was acknowledged since.
func TestWhatWasLookedForAfterALossIsNotLookedForAgain(t *testing.T) {
	t.Parallel()
	looked, _ := comes(lostRecord(), "a", subs("a.*"))
	looked = settles(looked, "a", 30)
	for name, c := range map[string]struct {
		rec    Record
		wanted []protocol.Subscription
		change func(*StartRequest)
		want   uint64
	}{
		"it wants as much":               {rec: looked, wanted: subs("a.*"), want: 30},
		"it wants less":                  {rec: looked, wanted: subs("a.x"), want: 30},
		"it wants more":                  {rec: looked, wanted: subs("a.*", "c.*")},
		"it is to say yet what it wants": {rec: looked},
		"nothing was lost": {
			rec:    Record{Epoch: epoch0, Daemons: map[protocol.DaemonID]Entry{"b": of(9, 40, there, wants("b.*"))}},
			wanted: subs("a.*"), want: 40,
		},
		"who has looked wants less since": {
			rec:    settles(looked, "a", 30, func(p *Progress) { p.Entry.Subscriptions = nil }),
			wanted: subs("a.*"),
		},
		"who has looked has wanted less for a while": {
			rec:    settles(looked, "a", 30, func(p *Progress) { p.Narrowed = true }),
			wanted: subs("a.*"),
		},
		"who has looked comes back wanting less": {
			rec:    first(comes(looked, "a", subs("a.x"))),
			wanted: subs("a.*"),
		},
		"it was lost again": {
			rec: looked.Apply("e", Progress{Epoch: epoch0, Entry: of(10, 40, there)}), wanted: subs("a.*"),
		},
		"the others would be forgotten by now": {
			rec: looked, wanted: subs("c.*"), want: 30,
			change: func(r *StartRequest) { r.Now = r.Now.Add(r.MaxAge + writtenWithin + time.Minute) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.change == nil {
				c.change = func(*StartRequest) {}
			}
			next, d := comes(c.rec, "new", c.wanted, c.change)
			require.Equal(t, c.want, d.Entry.Floor)
			_, again := comes(settles(next, "new", 50), "newer", c.wanted, c.change)
			require.Equal(t, len(c.wanted) > 0, again.Entry.Floor > 0, "whoever wants that after it")
		})
	}
}

func first(rec Record, _ Decision) Record { return rec }

// An entry's bounds make wider what it wants; what was looked for is not that much.
func TestWhatWasLookedForIsNeverMadeWider(t *testing.T) {
	t.Parallel()
	narrow := defaultLimits
	narrow.subscriptionBytes = 20
	a, b := subs("a.long", "b.long"), subs("c.long")
	var l Lost
	l = l.look(a, narrow)
	require.Equal(t, a, l.Looked)
	l = l.look(b, narrow)
	require.Equal(t, b, l.Looked, "the newest stays")
	l = l.look(subs("a.long", "b.long", "c.long"), narrow)
	require.Empty(t, l.Looked)
}

// A newcomer may say in several subscribes what it wants.
func TestANewcomerToARecordThatWasLostMayWantMore(t *testing.T) {
	t.Parallel()
	rec := lostRecord()
	req := StartRequest{Daemon: "a", Subscriptions: subs("a.*"), Epoch: epoch0, Now: now, Alive: alive, MaxAge: time.Hour}
	require.True(t, Incomplete(rec, req))
	req.Subscriptions = subs("*")
	require.False(t, Incomplete(rec, req))
	req.Daemon, req.Subscriptions = "b", subs("b.*")
	require.False(t, Incomplete(rec, req))
	req.Daemon, req.Now = "a", now.Add(req.MaxAge+2*writtenWithin)
	require.False(t, Incomplete(rec, req))
}

// Invariant 1: a bucket was lost, and nobody whose start its records do not know is
// there to say so: the first who writes into it knows that it held more.
func TestABucketThatWasLostIsNoticedByTheFirstWrite(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, server *testserver.NATSServer) (begun func()){
		"deleted": func(t *testing.T, server *testserver.NATSServer) func() {
			return func() {
				require.NoError(t, server.JetStream().DeleteKeyValue(t.Context(), eventlog.CursorBucket(0)))
				openStore(t, server, 1, "maker")
			}
		},
		"an older one": func(t *testing.T, server *testserver.NATSServer) func() {
			files := server.Copy(t, eventlog.BucketStream(eventlog.CursorBucket(0)))
			return func() { files.RollBack(t) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.NATS(t)
			s := openStore(t, server, 1, "a")
			lost := lose(t, server)
			for _, id := range ids("a", "b") {
				d := connect(t, s, orch, id, wanting(protocol.Pattern(id)+".*"))
				d.moves(20)
				d.leaves()
			}
			ctx, cancel := context.WithTimeout(t.Context(), waitTime)
			defer cancel()
			require.NoError(t, s.FlushAll(ctx))
			lost()

			d := connect(t, s, orch, "b", wanting("b.*"))
			d.moves(40)
			require.NoError(t, s.FlushAll(ctx))
			a, err := newSeat(openStore(t, server, 1, "b"), orch, "a", wanting("a.*")).begin(ctx)
			require.NoError(t, err)
			require.Zero(t, a.Entry.Floor)
			before := writes(s, statusOK)
			require.NoError(t, s.flush(ctx, orch))
			require.Equal(t, before, writes(s, statusOK), "it is said once")
		})
	}
}

// wanting has a daemon begin with these subscriptions.
func wanting(patterns ...protocol.Pattern) func(*StartRequest) {
	return func(r *StartRequest) { r.Subscriptions = subs(patterns...) }
}

// loss is a server whose bucket of cursors can be put back to where "b", which wants b.*
// and is connected by another edge, had settled all up to 20.
type loss struct {
	server   *testserver.NATSServer
	s, other *node
	b        *seat
	files    *testserver.Files
}

func beforeALoss(ctx context.Context, t *testing.T) loss {
	t.Helper()
	server := testserver.NATS(t)
	l := loss{server: server, s: openStore(t, server, 1, "a"), other: openStore(t, server, 1, "b")}
	l.b = connect(t, l.other, orch, "b", wanting("b.*"))
	l.b.moves(20)
	require.NoError(t, l.other.FlushAll(ctx))
	l.files = server.Copy(t, eventlog.BucketStream(eventlog.CursorBucket(0)))
	return l
}

// The write of a start may itself be the first of its edge after the loss, where another
// edge, which knew of nothing that was lost, has written before it.
func TestAStartThatShowsALossIsDecidedOnceMore(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	defer cancel()
	l := beforeALoss(ctx, t)
	a := connect(t, l.s, orch, "a", wanting("a.*"))
	a.leaves()
	require.NoError(t, l.s.FlushAll(ctx))
	l.files.RollBack(t)

	l.b.moves(40)
	require.NoError(t, l.other.FlushAll(ctx))
	d, err := newSeat(l.s, orch, "a", wanting("a.*")).begin(ctx)
	require.NoError(t, err)
	require.Zero(t, d.Entry.Floor, "b has passed what only a wants")
	rec := stored(t, openStore(t, l.server, 1, "c"), orch)
	require.False(t, rec.Lost.Since.IsZero())
	require.Equal(t, map[protocol.DaemonID]uint64{"a": 0, "b": 40}, floors(rec))
}

// Invariant 1: such a start may stay in the record, because another edge writes before it
// is taken back, or because its edge does not hear that it was stored. It is no place where
// the daemon has stood.
func TestAStartThatShowsALossIsNotBelievedWhereItStays(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"another edge writes before it is taken back", "nobody hears that it was stored"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), waitTime)
			defer cancel()
			l := beforeALoss(ctx, t)
			a := connect(t, l.s, orch, "a", wanting("a.*"))
			for floor := range uint64(5) {
				a.moves(30 + floor)
				require.NoError(t, l.s.FlushAll(ctx))
			}
			a.leaves()
			require.NoError(t, l.s.FlushAll(ctx))
			l.files.RollBack(t)
			l.b.moves(40)
			require.NoError(t, l.other.FlushAll(ctx))

			c := newSeat(l.s, orch, "a", wanting("a.*"))
			before, unheard := writes(l.s, statusOK), name == "nobody hears that it was stored"
			interfered := unheard
			l.s.now = func() time.Time {
				if !interfered && writes(l.s, statusOK) > before {
					interfered = true
					l.b.moves(50)
					require.NoError(t, l.other.FlushAll(ctx))
				}
				return time.Now()
			}
			var d Decision
			_, err := c.Begin(ctx, func(rec Record) (Record, Decision, bool) {
				next, d := Start(rec, c.request)
				if unheard {
					unheard = false
					data, err := next.Encode()
					require.NoError(t, err)
					put(t, l.s, orch, string(data)) // as if by this very write
				}
				return next, d, true
			}, func(decided Decision) { d = decided })
			require.NoError(t, err)
			require.True(t, interfered)
			require.Zero(t, d.Entry.Floor, "b has passed what only a wants")
			require.False(t, stored(t, openStore(t, l.server, 1, "c"), orch).Lost.Since.IsZero())
		})
	}
}

// What was looked for since an earlier loss is not known of a record that is an older
// one again.
func TestARecordThatIsLostAgainSaysSo(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	s := openStore(t, server, 1, "a")
	put(t, s, orch, "nonsense") // as lost as any
	a := connect(t, s, orch, "a", wanting("a.*"))
	a.moves(40)
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	defer cancel()
	require.NoError(t, s.FlushAll(ctx))
	files := server.Copy(t, eventlog.BucketStream(eventlog.CursorBucket(0)))
	c := connect(t, s, orch, "c", wanting("a.*"))
	require.EqualValues(t, 40, c.at.Entry.Floor, "a has looked for that")
	c.leaves()
	// For a while a does not want what c does, and passes it.
	a.moves(60, func(p *Progress) { p.Narrowed = true })
	require.NoError(t, s.FlushAll(ctx))
	a.moves(60, func(p *Progress) { p.Narrowed = false })
	require.NoError(t, s.FlushAll(ctx))
	files.RollBack(t)

	a.moves(70)
	require.NoError(t, s.FlushAll(ctx))
	d, err := newSeat(s, orch, "c", wanting("a.*")).begin(ctx)
	require.NoError(t, err)
	require.Zero(t, d.Entry.Floor)
}
