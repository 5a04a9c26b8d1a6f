package chaos

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/network"
)

// drawn is what a kind of fault cuts in a run of seed 7.
func drawn(t *testing.T, c *chaos, name string) target {
	t.Helper()
	kinds := allKinds()
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	targets := kinds[i].draw(c.World, c.Random(partFaults))
	require.Len(t, targets, 1)
	return targets[0]
}

func TestAProcessIsCutOffFromEverything(t *testing.T) {
	t.Parallel()
	c := laidOut(t, 7)
	others := len(c.Processes()) - 1 + 1 // and the world outside
	for name, links := range map[string]int{"cut-edge": 2 * others, "cut-edge-in": others, "cut-edge-out": others} {
		b := drawn(t, c, name)
		require.Len(t, b.touches, 1)
		self := network.Host(b.touches[0])
		require.True(t, strings.HasPrefix(b.touches[0], "edge-"))
		require.Len(t, b.links, links, name)
		for _, l := range b.links {
			require.True(t, l.From == self && name != "cut-edge-in" || l.To == self && name != "cut-edge-out", "%s: %v", name, l)
		}
		require.True(t, slices.ContainsFunc(b.links, func(l network.Link) bool { return l.From == network.Outside || l.To == network.Outside }))
	}
}

func TestATierIsCutOffFromTheOthersAlone(t *testing.T) {
	t.Parallel()
	b := drawn(t, laidOut(t, 7), "cut-all-nats")
	require.ElementsMatch(t, []string{"nats-1", "nats-2", "nats-3"}, b.touches)
	require.Contains(t, b.links, network.Link{From: "edge-1", To: "nats-1"})
	require.Contains(t, b.links, network.Link{From: "nats-1", To: "edge-1"})
	require.NotContains(t, b.links, network.Link{From: "nats-1", To: "nats-2"})
	require.NotContains(t, b.links, network.Link{From: network.Outside, To: "nats-1"})
}

func TestHalvesAreCutOffFromEachOther(t *testing.T) {
	t.Parallel()
	c := laidOut(t, 7)
	all := hostsOf(c.Processes())
	for name, ways := range map[string]int{"cut-halves": 2, "cut-halves-oneway": 1} {
		b := drawn(t, c, name)
		cuts := func(one, other network.Host) int {
			return len(slices.DeleteFunc(slices.Clone(b.links), func(l network.Link) bool {
				return l != network.Link{From: one, To: other} && l != network.Link{From: other, To: one}
			}))
		}
		side := []network.Host{}
		for _, h := range all {
			if cuts(all[0], h) == 0 {
				side = append(side, h)
			}
		}
		require.InDelta(t, len(all)/2, len(side), 1)
		for _, h := range side {
			for _, other := range without(all, side) {
				require.Equal(t, ways, cuts(h, other), "%s: %s and %s", name, h, other)
			}
			for _, near := range side {
				require.Zero(t, cuts(h, near), "%s: %s and %s", name, h, near)
			}
		}
	}
}

func TestWithoutANetworkNoLinksAreCut(t *testing.T) {
	t.Parallel()
	all := slices.Concat(allKinds(), slowKinds())
	kinds, err := possible(all, false, nil)
	require.NoError(t, err)
	require.Len(t, kinds, len(processKinds()))
	kinds, err = possible(all, true, nil)
	require.NoError(t, err)
	require.Len(t, kinds, len(processKinds())+len(lab.Tiers()), "processes may be slow all the same")
	_, err = possible(cutKinds(), true, nil)
	require.ErrorContains(t, err, "there is no private network")
	kinds, err = possible(cutKinds(), true, &network.Network{})
	require.NoError(t, err)
	require.Len(t, kinds, len(cutKinds()))
}
