package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/network"
)

// drawn is what a fault cuts in a run of seed 7.
func drawn(t *testing.T, w *world, name string) blow {
	t.Helper()
	faults, err := choose(name, true)
	require.NoError(t, err)
	blows := faults[0].draw(w, w.options.random(1))
	require.Len(t, blows, 1)
	return blows[0]
}

func TestAProcessIsCutOffFromEverything(t *testing.T) {
	t.Parallel()
	w := laidOut(t)
	others := len(w.Processes()) - 1 + 1 // and the world outside
	for name, links := range map[string]int{"cut-edge": 2 * others, "cut-edge-in": others, "cut-edge-out": others} {
		b := drawn(t, w, name)
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
	b := drawn(t, laidOut(t), "cut-all-nats")
	require.ElementsMatch(t, []string{"nats-1", "nats-2", "nats-3"}, b.touches)
	require.Contains(t, b.links, network.Link{From: "edge-1", To: "nats-1"})
	require.Contains(t, b.links, network.Link{From: "nats-1", To: "edge-1"})
	require.NotContains(t, b.links, network.Link{From: "nats-1", To: "nats-2"})
	require.NotContains(t, b.links, network.Link{From: network.Outside, To: "nats-1"})
}

func TestHalvesAreCutOffFromEachOther(t *testing.T) {
	t.Parallel()
	w := laidOut(t)
	all := hostsOf(w.Processes())
	for name, ways := range map[string]int{"cut-halves": 2, "cut-halves-oneway": 1} {
		b := drawn(t, w, name)
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
	some, err := choose("*", false)
	require.NoError(t, err)
	require.Equal(t, names(processFaults()), names(some))
	_, err = choose("cut-*", false)
	require.ErrorContains(t, err, "there is no private network")
}
