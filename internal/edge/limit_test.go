package edge

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func holding(session, daemon string, generation uint64) ring.Holding {
	return ring.Holding{Edge: "edge-of-" + session, Claim: ring.Claim{
		Orchestrator: "orch", Session: protocol.SessionID(session), Daemon: protocol.DaemonID(daemon), Generation: generation,
	}}
}

func sessions(holdings []ring.Holding) []string {
	names := []string{}
	for _, h := range holdings {
		names = append(names, string(h.Session))
	}
	return names
}

func TestSurplus(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		holdings       []ring.Holding
		limit          int
		replaced, over []string
	}{
		"none":                      {nil, 2, []string{}, []string{}},
		"within the limit":          {[]ring.Holding{holding("s1", "a", 1), holding("s2", "b", 2)}, 2, []string{}, []string{}},
		"the newest go":             {[]ring.Holding{holding("s3", "c", 3), holding("s1", "a", 1), holding("s2", "b", 2)}, 1, []string{}, []string{"s2", "s3"}},
		"ties by session":           {[]ring.Holding{holding("s2", "b", 1), holding("s1", "a", 1)}, 1, []string{}, []string{"s2"}},
		"the same daemon twice":     {[]ring.Holding{holding("s1", "a", 1), holding("s2", "a", 2), holding("s3", "b", 1)}, 2, []string{"s1"}, []string{}},
		"the same daemon, tie":      {[]ring.Holding{holding("s2", "a", 1), holding("s1", "a", 1)}, 2, []string{"s1"}, []string{}},
		"replaced ones do not fill": {[]ring.Holding{holding("s1", "a", 1), holding("s2", "a", 2), holding("s3", "a", 3), holding("s4", "b", 4)}, 2, []string{"s1", "s2"}, []string{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replaced, over := surplus(test.holdings, test.limit)
			require.Equal(t, test.replaced, sessions(replaced))
			require.Equal(t, test.over, sessions(over))
		})
	}
}

// Two edges that know the same claims in another order decide alike; else both
// or none of them would close a connection.
func TestSurplusDoesNotDependOnTheOrder(t *testing.T) {
	t.Parallel()
	for range 200 {
		var holdings []ring.Holding
		for i := range rand.IntN(10) {
			holdings = append(holdings, holding(fmt.Sprintf("s%d", i), fmt.Sprintf("d%d", rand.IntN(6)), rand.Uint64N(4)))
		}
		replaced, over := surplus(holdings, 3)
		require.LessOrEqual(t, len(holdings)-len(replaced)-len(over), 3)
		rand.Shuffle(len(holdings), func(i, j int) { holdings[i], holdings[j] = holdings[j], holdings[i] })
		replacedToo, overToo := surplus(holdings, 3)
		require.Equal(t, replaced, replacedToo)
		require.Equal(t, over, overToo)
	}
}

func TestOthersAreThoseThatANewcomerDoesNotReplace(t *testing.T) {
	t.Parallel()
	rest, same := others([]ring.Holding{
		holding("s3", "b", 3), holding("s1", "a", 1), holding("s2", "b", 2), holding("s4", "c", 4),
	}, "a")
	require.Equal(t, []string{"s3", "s4"}, sessions(rest))
	require.Equal(t, protocol.SessionID("s1"), same.Session)
	require.Equal(t, uint64(5), nextGeneration([]ring.Holding{holding("s", "d", 4), holding("s", "d", 2)}))
	require.Equal(t, uint64(1), nextGeneration(nil))
}
