package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

func laidOut(t *testing.T) *world {
	t.Helper()
	c, err := cluster.New(cluster.Config{Dir: t.TempDir(), NATS: 3, Binaries: cluster.Binaries{Edge: "edge", Router: "router", Bridge: "bridge"}})
	require.NoError(t, err)
	w := &world{Cluster: c, options: options{seed: 7}}
	w.nemesis = newNemesis(w)
	return w
}

func TestFaultsAreChosenByPattern(t *testing.T) {
	t.Parallel()
	all, err := choose("*", true)
	require.NoError(t, err)
	require.Len(t, all, len(allFaults()))
	some, err := choose("kill-edge,pause-*nats*,kill-*edge*", true)
	require.NoError(t, err)
	require.Equal(t, []string{"kill-edge", "pause-nats", "pause-all-nats", "kill-all-edges"}, names(some))
	_, err = choose("kill-edge,nonsense", true)
	require.ErrorContains(t, err, `no fault matches "nonsense"`)
}

func TestTheSameSeedDrawsTheSameTargets(t *testing.T) {
	t.Parallel()
	w := laidOut(t)
	draw := func() (drawn []string) {
		random := w.options.random(1)
		for _, f := range allFaults() {
			for _, b := range f.draw(w, random) {
				drawn = append(drawn, f.name+" "+b.what)
			}
		}
		return drawn
	}
	require.Equal(t, draw(), draw())
	require.Contains(t, draw(), "kill-everything redis")
	require.Contains(t, draw(), "restart-all-edges edge-3")
}

func TestCalmIsWhatNoFaultTouches(t *testing.T) {
	t.Parallel()
	w := laidOut(t)
	start := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	w.nemesis.done = []*injury{{touches: []string{"edge-1"}, began: at(10), mended: at(12)}, {touches: []string{"nats-2"}, began: at(30)}}
	concerns := func(name string) func(string) bool { return func(p string) bool { return p == name } }
	for _, test := range []struct {
		from, to, aftermath int
		name                string
		want                bool
	}{
		{0, 9, 0, "edge-1", true},
		{0, 11, 0, "edge-1", false},
		{11, 20, 0, "edge-1", false},
		{13, 20, 0, "edge-1", true},
		{13, 20, 5, "edge-1", false},
		{0, 20, 0, "edge-2", true},
		{40, 50, 0, "nats-2", false}, // never mended
	} {
		got := w.nemesis.calm(at(test.from), at(test.to), time.Duration(test.aftermath)*time.Second, concerns(test.name))
		require.Equal(t, test.want, got, "%+v", test)
	}
}

func TestEdgesAreTogetherAgainWhenTheClusterWasSeenToBeReady(t *testing.T) {
	t.Parallel()
	w := laidOut(t)
	start := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	w.nemesis.done = []*injury{
		{touches: []string{"nats-2"}, began: at(0), mended: at(2)},
		{touches: []string{"edge-1"}, began: at(10), mended: at(12)}, // the next one did not wait for it
		{touches: []string{"redis"}, began: at(12), mended: at(14), ready: at(20)},
		{touches: []string{"edge-2", "router-1"}, began: at(40), mended: at(45), ready: at(46), lingers: 5 * time.Second},
		{touches: []string{"edge-3"}, began: at(70), mended: at(71)},
	}
	w.healed = at(80)
	for _, test := range []struct {
		from, to int
		want     bool
	}{
		{0, 9, true},
		{9, 11, false},
		{13, 19, false},
		{20, 39, true},
		{39, 41, false},
		{47, 50, false}, // what TCP held back may still be on its way
		{51, 69, true},
		{72, 79, false},
		{80, 90, true},
	} {
		require.Equal(t, test.want, w.nemesis.together(at(test.from), at(test.to)), "%+v", test)
	}
}
