package ring

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Every node knows how many connections every edge holds; routers hold none and
// canaries are none.
func TestLoadsFollowTheClaims(t *testing.T) {
	t.Parallel()
	a := start(t, TierEdge, "a", nil)
	b := start(t, TierEdge, "b", nil, a)
	r := start(t, TierRouter, "r", nil, a)
	meet(t, a, b, r)
	a.fill(30)
	a.Claim(claimOf(protocol.ReservedPrefix+"edge", "canary", 1))
	b.fill(10)
	loads := func(n *node) map[string]int {
		byNode := make(map[string]int)
		for _, l := range n.Loads() {
			byNode[l.Node] = l.Connections
		}
		return byNode
	}
	shows := func(want map[string]int) {
		t.Helper()
		for _, n := range []*node{a, b, r} {
			require.Eventually(t, func() bool {
				got := loads(n)
				return len(got) == len(want) && got["a"] == want["a"] && got["b"] == want["b"] && n.Current()
			}, soon, poll)
		}
	}
	shows(map[string]int{"a": 30, "b": 10})
	a.Release(protocol.SessionID(uuid(3)))
	shows(map[string]int{"a": 29, "b": 10})
	require.NoError(t, b.SetDraining(patient(t), true))
	require.Eventually(t, func() bool {
		for _, l := range a.Loads() {
			if l.Node == "b" {
				return l.Draining
			}
		}
		return false
	}, soon, poll)
}
