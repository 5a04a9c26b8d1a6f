package ring

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
)

// An edge with 50,000 connections dies, and its daemons come back over the other
// edges within four seconds: what that costs each member, and how long until all
// know. The members are in one process, on a network in memory; time is the
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
	t.Cleanup(func() { time.Sleep(time.Minute) })
	const claims, within = 50_000, 4 * time.Second
	routers := max(1, size/10)
	network := newMemory()
	all := startMany(t, network, size, routers)
	dying, rest, edges := all[0], all[1:], all[1:size-routers]
	dying.fill(claims)
	awaitClaims(t, claims, all...)

	network.reset()
	killed := time.Now()
	dying.stop()
	noticed := make([]time.Duration, len(rest))
	comeBack(edges, claims, within)
	last := time.Now()
	for i, n := range rest {
		require.Eventually(t, func() bool { return len(n.Members(TierEdge)) == len(edges) }, soon, time.Millisecond)
		noticed[i] = time.Since(killed)
	}
	awaitClaims(t, claims, rest...)
	known := time.Since(last)
	each := func(n int64) float64 { return float64(n) / float64(len(rest)) }
	seconds := time.Since(killed).Seconds()
	t.Logf("| %d | %.0f | %.1f MiB | %.0f KiB | %.2f s | %.2f s |", size, each(network.dials.Load())/seconds,
		each(network.sentBytes.Load())/(1<<20), each(network.packetBytes.Load())/1024, noticed[len(noticed)-1].Seconds(), max(0, known.Seconds()))
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
		for i := claims * step / steps; i < claims*(step+1)/steps; i++ {
			edges[i%len(edges)].Claim(claimOf(fmt.Sprint("back-", i), uuid(i), 2))
		}
		time.Sleep(within / steps)
	}
}

// awaitClaims waits until each knows of so many claims.
func awaitClaims(t *testing.T, claims int64, all ...*node) {
	t.Helper()
	for _, n := range all {
		require.Eventually(t, func() bool { return n.table.total.Load() == claims && n.lagSince.Load() == nil }, soon, time.Millisecond,
			"%s has %d claims, expected %d", n.Self().Name, n.table.total.Load(), claims)
	}
}
