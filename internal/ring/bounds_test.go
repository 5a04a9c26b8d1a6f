package ring

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/share"
)

// roomFor is a follower in whose table so many claims of one edge find room.
func roomFor(claims int, edges ...string) *follower {
	f := newTestFollower(edges...)
	f.table.room = share.New[edgeID](2 * int64(claims) * claimOf("o", uuid(0), 1).cost())
	return f
}

// untouched reports whether nothing of the room is taken.
func (f *follower) untouched(claims int) bool {
	return f.table.room.Fits(idOf("nobody"), int64(claims)*claimOf("o", uuid(0), 1).cost())
}

func batchOf(from uint64, n int) batch {
	b := batch{From: from}
	for i := range n {
		b.Changes = append(b.Changes, change{Claim: claimOf("o", uuid(int(from)+i), 1)})
	}
	return b
}

// Whoever has the gossip key may claim without end. What it has claimed is forgotten, the
// others' claims stay, and after a while it is asked again.
func TestAnEdgeThatClaimsWithoutEndIsForgotten(t *testing.T) {
	t.Parallel()
	f := roomFor(100, "edge-a", "edge-b")
	var told []edgeID
	f.noRoom = func(id edgeID) { told = append(told, id) }
	f.batch(begin, idOf("edge-b"), batchOf(0, 10))
	for i := range 20 {
		f.batch(begin, edgeA, batchOf(uint64(10*i), 10))
	}
	d, _ := f.table.digestOf(edgeA)
	require.Equal(t, digest{Edge: edgeA}, d)
	require.Equal(t, []edgeID{edgeA}, told)
	require.EqualValues(t, 10, f.table.total.Load(), "those of edge-b")
	require.Greater(t, testutil.ToFloat64(f.metrics.drops.Of(dropClaims)), 1.0)
	require.Zero(t, f.oldestLag(), "nobody waits for it")

	f.digest(begin, digest{Edge: edgeA, Version: 1000, Count: 1000})
	require.Empty(t, f.due(begin.Add(fullPause-1)))
	require.Equal(t, []digest{{Edge: edgeA}}, f.due(begin.Add(fullPause)))
	f.chunk(begin.Add(fullPause), chunk{Digest: digest{Edge: edgeA, Version: 1}, Total: 1, Claims: []Claim{claimOf("o", uuid(7), 1)}})
	require.EqualValues(t, 11, f.table.total.Load())

	f.leave("edge-a")
	f.leave("edge-b")
	require.True(t, f.untouched(100))
}

// What waits for its turn takes the same room.
func TestBatchesThatCameEarlyFindNoRoomWithoutEnd(t *testing.T) {
	t.Parallel()
	f := roomFor(100, "edge-a")
	for i := range 20 {
		f.batch(begin, edgeA, batchOf(uint64(1+10*i), 10))
	}
	held := len(f.edges[edgeA].early)
	require.Less(t, held, 11)
	require.InDelta(t, 20-held, testutil.ToFloat64(f.metrics.drops.Of(dropEarly)), 0)
	f.batch(begin, edgeA, batchOf(0, 1))
	require.EqualValues(t, 1+10*held, f.version(edgeA), "those that were held have their turn")
	f.leave("edge-a")
	require.True(t, f.untouched(100))
}

func TestASnapshotWithoutEndFindsNoRoom(t *testing.T) {
	t.Parallel()
	f := roomFor(100, "edge-a")
	require.Len(t, f.due(begin), 1)
	snapshot := digest{Edge: edgeA, Version: 1000, Count: 1000}
	for i := range 30 {
		c := chunk{Digest: snapshot, Index: i, Total: maxChunks}
		for n := range 10 {
			c.Claims = append(c.Claims, claimOf("o", uuid(10*i+n), 1))
		}
		f.chunk(begin, c)
	}
	require.Nil(t, f.edges[edgeA].assembly)
	require.False(t, f.edges[edgeA].full.IsZero())
	require.True(t, f.untouched(100))
}

// A snapshot takes the place of what it follows, and need not find room beside it.
func TestASnapshotFindsTheRoomOfWhatWasBefore(t *testing.T) {
	t.Parallel()
	f := roomFor(100, "edge-a")
	f.batch(begin, edgeA, batchOf(0, 60))
	f.digest(begin, digest{Edge: edgeA, Version: 1000, Count: 80})
	require.Len(t, f.due(begin.Add(time.Minute)), 1)
	for i := range 2 {
		c := chunk{Digest: digest{Edge: edgeA, Version: 1000, Count: 80}, Index: i, Total: 2}
		for n := range 40 {
			c.Claims = append(c.Claims, claimOf("o", uuid(1000+40*i+n), 1))
		}
		f.chunk(begin.Add(time.Minute), c)
	}
	require.EqualValues(t, 1000, f.version(edgeA))
	require.EqualValues(t, 80, f.table.total.Load())
	require.True(t, f.edges[edgeA].full.IsZero())
	f.leave("edge-a")
	require.True(t, f.untouched(100))
}

// A snapshot that does not come gives back what it has taken.
func TestWhatIsLeftOfASnapshotTakesNoRoom(t *testing.T) {
	t.Parallel()
	f := roomFor(100, "edge-a")
	require.Len(t, f.due(begin), 1)
	c := chunk{Digest: digest{Edge: edgeA, Version: 1000, Count: 1000}, Total: 2, Claims: []Claim{claimOf("o", uuid(1), 1)}}
	f.chunk(begin, c)
	require.False(t, f.untouched(100))
	c.Digest.Version++
	f.chunk(begin, c)
	f.due(begin.Add(answerTimeout))
	require.True(t, f.untouched(100))
}

func TestAClaimHasNoMoreTextThanIDsMayHave(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxClaimText)
	for _, c := range []change{
		{Claim: claimOf(long, uuid(1), 1)}, {Claim: claimOf("o", long, 1)}, {Released: true, Claim: Claim{Session: claimOf("o", long+"x", 1).Session}},
	} {
		message := append(appendHeader(nil, 7), batchFrames(batch{Changes: []change{c}})[0]...)
		_, err := decodeMessage(message)
		require.ErrorIs(t, err, errMalformed)
	}
}

// Whoever has the gossip key may name members without end.
func TestGossipNamesOnlySoManyMembers(t *testing.T) {
	t.Parallel()
	m := newMetrics(prometheus.NewPedanticRegistry())
	d := newDelegate(selfFor(TierEdge), newTable("a-1"), newInbox(m), m, true)
	told := 0
	d.admit.tell = func() { told++ }
	node := func(i int) *memberlist.Node {
		return &memberlist.Node{Name: "invented-" + strconv.Itoa(i), Addr: net.IPv4(127, 0, 0, 1), Port: 1, Meta: encodeMeta(selfFor(TierEdge))}
	}
	for i := range maxMembers {
		require.NoError(t, d.NotifyAlive(node(i)))
		d.NotifyJoin(node(i))
	}
	require.ErrorIs(t, d.NotifyAlive(node(maxMembers)), errMembers)
	require.ErrorIs(t, d.NotifyAlive(node(maxMembers)), errMembers)
	require.NoError(t, d.NotifyAlive(node(0)), "who is a member stays one")
	require.InDelta(t, 2, testutil.ToFloat64(m.drops.Of(dropMembers)), 0)
	require.Equal(t, 1, told)
	d.NotifyLeave(node(0))
	require.NoError(t, d.NotifyAlive(node(maxMembers)))
}

// Nor do members that come and go: memberlist remembers those that are gone for a while.
func TestGossipNamesOnlySoManyMembersInATime(t *testing.T) {
	t.Parallel()
	a := newAdmission(newMetrics(prometheus.NewPedanticRegistry()))
	comesAndGoes := func(now time.Time, i int) bool {
		name := strconv.Itoa(i)
		if !a.admits(now, name) {
			return false
		}
		a.joined(name)
		a.left(name)
		return true
	}
	for i := range newMembers {
		require.True(t, comesAndGoes(begin, i))
	}
	require.False(t, comesAndGoes(begin, newMembers))
	require.True(t, comesAndGoes(begin.Add(deadFor), newMembers))
}
