package ring

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func claimOf(orchestrator, session string, generation uint64) Claim {
	return Claim{
		Orchestrator: event.Token(orchestrator), Session: protocol.SessionID(session),
		Daemon: protocol.DaemonID("daemon-of-" + orchestrator), Generation: generation,
	}
}

// uuid makes a session id of the usual form.
func uuid(n int) string { return fmt.Sprintf("6f9619ff-8b86-4011-b42d-%012x", n) }

// writer is an edge's table, and all changes it ever made.
type writer struct {
	*table
	all batch
}

func newWriter(name string) *writer { return &writer{table: newTable(name)} }

// collect takes what the edge would send now.
func (w *writer) collect() batch {
	b := w.takeOutgoing()
	w.all.Changes = append(w.all.Changes, b.Changes...)
	return b
}

// contents is what a table shows of all its edges.
func contents(t *table) map[Holding]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[Holding]int)
	for _, e := range t.edges {
		for _, h := range e.claims {
			out[h.holding()]++
		}
	}
	return out
}

func plain(claims []*held) []Claim {
	out := make([]Claim, len(claims))
	for i, h := range claims {
		out[i] = h.Claim
	}
	return out
}

// history is an edge with a past: claims, replacements and releases.
func history(r *rand.Rand, name string, changes int) *writer {
	w := newWriter(name)
	for len(w.all.Changes) < changes {
		session := uuid(r.IntN(changes/3 + 1))
		if r.IntN(3) == 0 {
			w.release(protocol.SessionID(session))
		} else {
			w.claim(claimOf("orchestrator-"+strconv.Itoa(r.IntN(20)), session, r.Uint64N(3)))
		}
		w.collect()
	}
	return w
}

// The laws of the merge: however the changes arrive (cut into any batches,
// repeated, overlapping, in any order, mixed with snapshots), a copy at version
// v is the state after the first v changes, and versions never fall.
func TestTableMergeLaws(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := history(r, "edge-a", 40)
		states := replay(w)
		copied := newTable("")
		copied.addEdge("edge-a")
		id := idOf("edge-a")
		for range 300 {
			before, _ := copied.digestOf(id)
			from := r.IntN(len(w.all.Changes))
			to := from + r.IntN(len(w.all.Changes)-from+1)
			if r.IntN(20) == 0 {
				copied.replace(id, uint64(to), plain(states[to].claims))
			} else {
				copied.apply(id, batch{From: uint64(from), Changes: w.all.Changes[from:to]})
			}
			after, _ := copied.digestOf(id)
			require.GreaterOrEqual(t, after.Version, before.Version, "seed %d: the version fell", seed)
			want := states[after.Version].digest
			require.Equal(t, want, after, "seed %d: version %d is not what the edge had then", seed, after.Version)
		}
		copied.apply(id, batch{Changes: w.all.Changes})
		require.Equal(t, contents(w.table), contents(copied), "seed %d", seed)
	}
}

type state struct {
	digest digest
	claims []*held
}

// replay returns the edge's state after each of its changes.
func replay(w *writer) []state {
	again := newTable(w.own.name)
	d, claims := again.snapshot()
	states := []state{{d, claims}}
	for _, c := range w.all.Changes {
		if c.Released {
			again.release(c.Claim.Session)
		} else {
			again.claim(c.Claim)
		}
		d, claims := again.snapshot()
		states = append(states, state{d, claims})
	}
	return states
}

func TestTableOutcomes(t *testing.T) {
	t.Parallel()
	w := newWriter("edge-a")
	for i := range 4 {
		w.claim(claimOf("o", uuid(i), 1))
	}
	all := w.takeOutgoing().Changes
	id := idOf("edge-a")
	tests := []struct {
		name string
		step func(*table) outcome
		want outcome
		at   uint64
	}{
		{"in order", func(t *table) outcome { return t.apply(id, batch{0, all[:2]}) }, outcomeApplied, 2},
		{"again", func(t *table) outcome { return t.apply(id, batch{0, all[:2]}) }, outcomeStale, 2},
		{"ahead", func(t *table) outcome { return t.apply(id, batch{3, all[3:]}) }, outcomeGap, 2},
		{"overlapping", func(t *table) outcome { return t.apply(id, batch{1, all[1:3]}) }, outcomeApplied, 3},
		{"old snapshot", func(t *table) outcome { return t.replace(id, 2, nil) }, outcomeStale, 3},
		{"stranger", func(t *table) outcome { return t.apply(idOf("edge-b"), batch{0, all}) }, outcomeUnknown, 3},
		{"stranger's snapshot", func(t *table) outcome { return t.replace(idOf("edge-b"), 9, nil) }, outcomeUnknown, 3},
		{"snapshot", func(t *table) outcome { return t.replace(id, 9, nil) }, outcomeApplied, 9},
	}
	copied := newTable("")
	copied.addEdge("edge-a")
	for _, test := range tests {
		require.Equal(t, test.want, test.step(copied), test.name)
		d, _ := copied.digestOf(id)
		require.Equal(t, test.at, d.Version, test.name)
	}
	require.Empty(t, contents(copied))
}

// What an edge says of itself is not to be changed by what comes in.
func TestTableOwnClaimsAreItsOwn(t *testing.T) {
	t.Parallel()
	w := newWriter("edge-a")
	w.claim(claimOf("o", uuid(1), 1))
	require.Equal(t, outcomeUnknown, w.apply(w.own.id, batch{1, []change{{Released: true, Claim: Claim{Session: protocol.SessionID(uuid(1))}}}}))
	require.Equal(t, outcomeUnknown, w.replace(w.own.id, 9, nil))
	w.removeEdge("edge-a")
	require.Len(t, w.index.holdings("o"), 1)

	router := newTable("")
	router.claim(claimOf("o", uuid(1), 1))
	router.release("x")
	require.Empty(t, contents(router))
}

func TestTableClaimTwiceIsOneChange(t *testing.T) {
	t.Parallel()
	w := newWriter("edge-a")
	w.claim(claimOf("o", uuid(1), 1))
	w.claim(claimOf("o", uuid(1), 1))
	require.Len(t, w.takeOutgoing().Changes, 1)
	w.claim(claimOf("o", uuid(1), 2))
	w.release("unknown")
	require.Len(t, w.takeOutgoing().Changes, 1)
	require.Equal(t, []Holding{{"edge-a", claimOf("o", uuid(1), 2)}}, w.index.holdings("o"))
}

// Changes that nobody takes away must not pile up; what is thrown away shows as
// a gap, never as a wrong state.
func TestTableOutgoingIsBounded(t *testing.T) {
	t.Parallel()
	w := newWriter("edge-a")
	for i := range maxOutgoing + 10 {
		w.claim(claimOf("o"+strconv.Itoa(i%500), uuid(i%1000), uint64(i)))
	}
	b := w.takeOutgoing()
	require.LessOrEqual(t, len(b.Changes), maxOutgoing)
	require.Equal(t, uint64(maxOutgoing+10), b.end())
	require.Equal(t, uint64(maxOutgoing+10), w.takeOutgoing().From)
}

func TestAppendEdgesNamesEachEdgeOnce(t *testing.T) {
	t.Parallel()
	copied := newTable("edge-a")
	copied.addEdge("edge-b")
	copied.claim(claimOf("o", uuid(1), 1))
	copied.claim(claimOf("o", uuid(2), 2))
	copied.replace(idOf("edge-b"), 2, []Claim{claimOf("o", uuid(3), 3), claimOf("p", uuid(4), 1)})
	require.ElementsMatch(t, []string{"before", "edge-a", "edge-b"}, copied.index.appendEdges([]string{"before"}, "o"))
	require.Equal(t, []string{"edge-b"}, copied.index.appendEdges(nil, "p"))
	require.Empty(t, copied.index.appendEdges(nil, "nobody"))
	copied.removeEdge("edge-b")
	require.Equal(t, []string{"edge-a"}, copied.index.appendEdges(nil, "o"))
	copied.release(protocol.SessionID(uuid(1)))
	copied.release(protocol.SessionID(uuid(2)))
	for i := range copied.index.shards {
		require.Empty(t, copied.index.shards[i].heads)
	}
}

func TestAppendEdgesDoesNotAllocate(t *testing.T) {
	copied := newTable("edge-a")
	for i := range 3 {
		copied.addEdge("edge-" + strconv.Itoa(i))
		copied.replace(idOf("edge-"+strconv.Itoa(i)), 1, []Claim{claimOf("o", uuid(i), 1)})
	}
	dst := make([]string, 0, 8)
	require.Zero(t, testing.AllocsPerRun(1000, func() { dst = copied.index.appendEdges(dst[:0], "o") }))
	require.Len(t, dst, 3)
}

// BenchmarkAppendEdges tells what a look into the directory costs, however many
// claims there are; what grows is that less of it is in the processor's caches.
func BenchmarkAppendEdges(b *testing.B) {
	for _, claims := range []int{1000, 100_000, 1_000_000} {
		b.Run(strconv.Itoa(claims), func(b *testing.B) {
			copied := newTable("edge-a")
			tokens := make([]event.Token, claims)
			for i := range tokens {
				tokens[i] = event.Token("orchestrator-" + strconv.Itoa(i))
				copied.claim(claimOf(string(tokens[i]), uuid(i), 1))
			}
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				dst := make([]string, 0, 8)
				for i := 0; pb.Next(); i++ {
					dst = copied.index.appendEdges(dst[:0], tokens[i*7919%len(tokens)])
				}
			})
		})
	}
}

// BenchmarkClaimMemory tells how many bytes of heap a claim keeps in every
// member of the cluster.
func BenchmarkClaimMemory(b *testing.B) {
	const claims = 1_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	copied := newTable("")
	copied.unwatched()
	copied.addEdge("edge-b")
	changes := make([]change, 1)
	for i := range claims {
		token := "clx1" + uuid(i)[15:]
		changes[0].Claim = claimOf(token, uuid(i), 1)
		changes[0].Claim.Daemon = protocol.DaemonID("daemon_session_" + token + "_1732291200000")
		copied.apply(idOf("edge-b"), batch{From: uint64(i), Changes: changes})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/claims, "bytes/claim")
	runtime.KeepAlive(copied)
}
