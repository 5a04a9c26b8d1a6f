package ring

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
)

// An edge dies, and its daemons come back over the other edges within four seconds:
// what that costs each member, and how long until all know. make test-long has
// 50,000 of them, and up to 100 members. The members are in one process, on a network in memory; time is the
// bubble's own and stands still while anybody works, so nothing here depends on the
// machine, and processors are as fast as can be.
func TestAnEdgeDiesAndItsDaemonsComeBackOverTheOthers(t *testing.T) {
	t.Parallel()
	sizes := []int{3, 10, 30, 100}
	for _, size := range sizes[:budget.Runs(2, len(sizes))] {
		t.Run(fmt.Sprintf("%d members", size), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { anEdgeDies(t, size) })
		})
	}
}

func anEdgeDies(t *testing.T, size int) {
	// memberlist waits for nobody when it is shut down.
	t.Cleanup(func() { <-time.After(time.Minute) }) // the bubble's time
	claims, within := budget.Runs(2000, 50_000), 4*time.Second
	routers := max(1, size/10)
	network := newMemory()
	all := startMany(t, network, size, routers)
	dying, rest, edges := all[0], all[1:], all[1:size-routers]
	dying.fill(claims)
	for _, edge := range edges {
		edge.Claim(claimOf("there all along", "of "+edge.Self().Node, 1))
	}
	awaitClaims(t, claims+len(edges), all...)

	network.reset()
	killed := time.Now()
	dying.stop()
	noticed := make(chan time.Duration, 1)
	go func() {
		for _, n := range rest {
			for len(n.Members(TierEdge)) != len(edges) {
				<-time.After(time.Millisecond) // the bubble's time
			}
		}
		noticed <- time.Since(killed)
	}()
	comeBack(edges, claims, within)
	last := time.Now()
	missed := <-noticed
	awaitClaims(t, claims+len(edges), rest...)
	known := time.Since(last)

	each := func(n int64) float64 { return float64(n) / float64(len(rest)) }
	dials := each(network.dials.Load()) / time.Since(killed).Seconds()
	t.Logf("| %d | %.1f | %.1f MiB | %.0f KiB | %.1f s | %.0f ms |", size, dials,
		each(network.sentBytes.Load())/(1<<20), each(network.packetBytes.Load())/1024, missed.Seconds(), known.Seconds()*1000)
	// Some streams are of memberlist itself, and some are tried to the edge that is
	// dead and not known to be. A message is none.
	require.Less(t, dials, 6.0, "of each member in a second")
}

// startMany runs members of a network in memory, edges first, and waits until
// each knows all others.
func startMany(t *testing.T, network *memory, size, routers int) (all []*node) {
	t.Helper()
	for i := range size {
		tier := TierEdge
		if i >= size-routers {
			tier = TierRouter
		}
		var others []*node
		if i > 0 {
			others = all[:1]
		}
		all = append(all, start(t, tier, fmt.Sprint("member", i), func(s *setup) { s.listen, s.unwatched = network.listen, true }, others...))
	}
	meet(t, all...)
	return all
}

// comeBack has daemons claimed by the edges in turn, evenly over a time.
func comeBack(edges []*node, claims int, within time.Duration) {
	const steps = 400
	for step := range steps {
		<-time.After(within / steps) // the bubble's time
		for i := claims * step / steps; i < claims*(step+1)/steps; i++ {
			edges[i%len(edges)].Claim(claimOf(fmt.Sprint("back-", i), uuid(i), 2))
		}
	}
}

// awaitClaims waits until each knows of so many claims.
func awaitClaims(t *testing.T, claims int, all ...*node) {
	t.Helper()
	for _, n := range all {
		require.Eventually(t, func() bool { return n.table.total.Load() == int64(claims) && n.lagSince.Load() == nil }, soon, time.Millisecond,
			"%s has %d claims, expected %d", n.Self().Name, n.table.total.Load(), claims)
	}
}
