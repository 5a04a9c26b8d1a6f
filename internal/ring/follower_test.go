package ring

import (
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/settings"
)

var (
	begin = time.Unix(1_800_000_000, 0)
	edgeA = idOf("edge-a")
)

func newTestFollower(edges ...string) *follower {
	f := newFollower(newTable(""), newMetrics(prometheus.NewRegistry()))
	for _, name := range edges {
		f.join(begin, name)
	}
	return f
}

func (f *follower) version(id edgeID) uint64 {
	d, _ := f.table.digestOf(id)
	return d.Version
}

// An edge without any claim is known as soon as its digest says so; until then
// it is asked at once, and again when it does not answer.
func TestFollowerAsksWhomItHasNotHeard(t *testing.T) {
	t.Parallel()
	f := newTestFollower("edge-a")
	require.Equal(t, []digest{{Edge: edgeA}}, f.due(begin))
	require.Empty(t, f.due(begin.Add(answerTimeout-1)))
	require.Len(t, f.due(begin.Add(answerTimeout)), 1)
	require.Equal(t, begin, f.oldestLag())
	f.digest(begin.Add(answerTimeout), digest{Edge: edgeA})
	require.Zero(t, f.oldestLag())
	require.Empty(t, f.due(begin.Add(time.Hour)))
}

// Streams overtake one another: a batch that comes early waits for its turn, and
// a snapshot is asked for only if the missing one stays away.
func TestFollowerWaitsForTheMissingBatch(t *testing.T) {
	t.Parallel()
	w := newWriter("edge-a")
	var batches []batch
	for i := range 4 {
		w.claim(claimOf("o", uuid(i), 1))
		batches = append(batches, w.collect())
	}
	f := newTestFollower("edge-a")
	f.batch(begin, edgeA, batches[0])
	for _, i := range []int{3, 2, 2} {
		f.batch(begin, edgeA, batches[i])
	}
	require.Equal(t, uint64(1), f.version(edgeA))
	require.Empty(t, f.due(begin.Add(behindGrace-1)))
	f.batch(begin, edgeA, batches[1])
	require.Equal(t, uint64(4), f.version(edgeA))
	require.Zero(t, f.oldestLag())
	require.Empty(t, f.due(begin.Add(time.Hour)))

	f = newTestFollower("edge-a")
	f.batch(begin, edgeA, batches[0])
	f.batch(begin, edgeA, batches[2])
	require.Len(t, f.due(begin.Add(behindGrace)), 1)
}

func TestFollowerHoldsNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	f := newTestFollower("edge-a")
	for i := range maxHeld + 5 {
		f.batch(begin, edgeA, batch{From: uint64(10 + i), Changes: []change{{Claim: claimOf("o", uuid(i), 1)}}})
	}
	require.Len(t, f.edges[edgeA].early, maxHeld)
	require.InDelta(t, 5, testutil.ToFloat64(f.metrics.drops.Of(dropEarly)), 0)
	f.batch(begin, idOf("stranger"), batch{})
	require.InDelta(t, 1, testutil.ToFloat64(f.metrics.drops.Of(dropUnknownEdge)), 0)
}

// chunks cuts a snapshot of the edge into n pieces.
func chunks(w *writer, n int) []chunk {
	d, claims := w.snapshot()
	all := plain(claims)
	out := make([]chunk, n)
	for i := range out {
		out[i] = chunk{Digest: d, Index: i, Total: n, Claims: all[i*len(all)/n : (i+1)*len(all)/n]}
	}
	return out
}

// The chunks of two snapshots do not mix, in whatever order they come; changes
// that were made meanwhile follow.
func TestFollowerPutsSnapshotsTogether(t *testing.T) {
	t.Parallel()
	w := newWriter("edge-a")
	for i := range 9 {
		w.claim(claimOf("o", uuid(i), 1))
	}
	old := chunks(w, 3)
	w.collect()
	for i := range 6 {
		w.release(claimOf("o", uuid(i), 1).Session)
	}
	w.claim(claimOf("p", uuid(77), 1))
	w.collect()
	young := chunks(w, 3)
	w.claim(claimOf("p", uuid(78), 1))
	after := w.collect()

	f := newTestFollower("edge-a")
	f.chunk(begin, old[0])
	require.Nil(t, f.edges[edgeA].assembly, "nobody asked for it")
	f.due(begin)
	f.batch(begin, edgeA, after)
	for _, c := range []chunk{old[0], old[2], young[1], old[1], old[0], young[0], young[0]} {
		f.chunk(begin, c)
		require.Zero(t, f.version(edgeA))
	}
	f.chunk(begin, young[2])
	require.Equal(t, after.end(), f.version(edgeA))
	require.Equal(t, contents(w.table), contents(f.table))
	require.Zero(t, f.oldestLag())
}

// Progress keeps a request open; without it, it is given up and made again.
func TestFollowerGivesUpOnASilentEdge(t *testing.T) {
	t.Parallel()
	w := newWriter("edge-a")
	w.claim(claimOf("o", uuid(1), 1))
	w.claim(claimOf("o", uuid(2), 1))
	parts := chunks(w, 2)
	f := newTestFollower("edge-a")
	f.due(begin)
	f.chunk(begin.Add(answerTimeout-1), parts[0])
	require.Empty(t, f.due(begin.Add(2*answerTimeout-2)))
	require.Len(t, f.due(begin.Add(2*answerTimeout)), 1)
	f.chunk(begin.Add(2*answerTimeout), parts[1])
	require.Zero(t, f.version(edgeA), "the first part was given up")
	f.chunk(begin.Add(2*answerTimeout), parts[0])
	require.Equal(t, uint64(2), f.version(edgeA))
	require.InDelta(t, 1, testutil.ToFloat64(f.metrics.snapshots.Of(snapshotAbandoned)), 0)
}

// Few snapshots come in at a time, the longest wanted first.
func TestFollowerAsksFewAtATime(t *testing.T) {
	t.Parallel()
	f := newTestFollower()
	for i := range 10 {
		f.join(begin.Add(time.Duration(-i)*time.Second), "edge-"+strconv.Itoa(i))
	}
	var asked []edgeID
	for len(asked) < 10 {
		due := f.due(begin)
		require.NotEmpty(t, due)
		require.LessOrEqual(t, len(due), maxRequests)
		for _, have := range due {
			asked = append(asked, have.Edge)
			f.digest(begin, digest{Edge: have.Edge})
		}
	}
	for i, id := range asked {
		require.Equal(t, idOf("edge-"+strconv.Itoa(9-i)), id)
	}
}

// A copy that differs at the same version can only come from a defect; it is
// noticed, counted and mended.
func TestFollowerMendsADifferingCopy(t *testing.T) {
	t.Parallel()
	w := newWriter("edge-a")
	w.claim(claimOf("o", uuid(1), 1))
	f := newTestFollower("edge-a")
	f.batch(begin, edgeA, batch{Changes: []change{{Claim: claimOf("wrong", uuid(9), 1)}}})
	require.Zero(t, f.oldestLag())
	d, _ := w.snapshot()
	f.digest(begin, d)
	f.digest(begin, d)
	require.InDelta(t, 1, testutil.ToFloat64(f.metrics.snapshots.Of(snapshotDiffers)), 0)
	require.Len(t, f.due(begin.Add(behindGrace)), 1)
	f.chunk(begin.Add(behindGrace), chunks(w, 1)[0])
	require.Equal(t, contents(w.table), contents(f.table))
	require.Zero(t, f.oldestLag())
}

// What comes after an edge has died does not bring its claims back.
func TestFollowerForgetsTheDead(t *testing.T) {
	t.Parallel()
	w := newWriter("edge-a")
	w.claim(claimOf("o", uuid(1), 1))
	b := w.collect()
	f := newTestFollower("edge-a")
	f.due(begin)
	f.batch(begin, edgeA, b)
	f.leave("edge-a")
	f.batch(begin, edgeA, b)
	f.chunk(begin, chunks(w, 1)[0])
	f.digest(begin, digest{Edge: edgeA, Version: 9})
	require.Empty(t, contents(f.table))
	require.Zero(t, f.table.total.Load())
	require.Empty(t, f.due(begin.Add(time.Hour)))
}

// A member that has been taken says nothing of what others hold.
func TestAnEdgeSpeaksForItselfAlone(t *testing.T) {
	t.Parallel()
	cfg := settings.Default[Config]()
	cfg.GossipAddr = "127.0.0.1:0"
	d, err := New(cfg, TierEdge, "a", "build", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	w := newWriter("edge-a")
	w.claim(claimOf("o", uuid(1), 1))
	w.collect()
	have, claims := w.snapshot()
	d.follower.join(begin, "edge-a")
	d.follower.digest(begin, have)
	require.Len(t, d.follower.due(begin), 1)
	for _, step := range []struct {
		sender edgeID
		claims int64
	}{{idOf("edge-b"), 0}, {edgeA, 1}} {
		m, err := decodeMessage(append(appendHeader(nil, step.sender), chunkFrame(have, claims, 0)...))
		require.NoError(t, err)
		d.takeInMessage(begin, m)
		require.Equal(t, step.claims, d.table.total.Load())
	}
}
