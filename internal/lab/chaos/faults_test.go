package chaos

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

// laidOut is a run with a cluster that does not run.
func laidOut(t *testing.T, seed uint64) *chaos {
	t.Helper()
	w := &lab.World{Seed: seed, Dir: t.TempDir(), Binaries: cluster.Binaries{Edge: "edge", Router: "router", Bridge: "bridge"}}
	require.NoError(t, w.LayOut(cluster.Config{NATS: 3, Bridges: 2, Routers: 2, Edges: 3}))
	c := &chaos{World: w}
	c.nemesis = newNemesis(c)
	return c
}

// A seed means the same faults for ever: docs/reliability.md names some, and says
// what came of them. The list was drawn before the lab was one.
func TestTheSeedsOfThePagesDrawTheirFaults(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/faults.golden")
	require.NoError(t, err)
	var drawn strings.Builder
	for _, seed := range []uint64{272, 23, 31, 41, 42, 43, 44, 51} {
		fmt.Fprintf(&drawn, "seed %d\n", seed)
		c := laidOut(t, seed)
		for range 12 {
			p := c.nemesis.next(c.nemesis.random, allKinds())
			links := 0
			for _, x := range p.fault.targets {
				links += len(x.links)
			}
			fmt.Fprintf(&drawn, "%s %s; links %d, short %s, long %s, patient %t, pause %s, calm %t\n",
				p.fault.name, p.fault.what(), links, p.short, p.long, p.patient, p.pause, p.spell)
		}
	}
	require.Equal(t, string(golden), drawn.String())
}

func touching(processes ...string) []target { return []target{{touches: processes}} }

func TestCalmIsWhatNoFaultTouches(t *testing.T) {
	t.Parallel()
	c := laidOut(t, 7)
	start := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	c.nemesis.done = []*fault{{targets: touching("edge-1"), began: at(10), mended: at(12)}, {targets: touching("nats-2"), began: at(30)}}
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
		got := c.nemesis.calm(at(test.from), at(test.to), time.Duration(test.aftermath)*time.Second, is(test.name))
		require.Equal(t, test.want, got, "%+v", test)
	}
}

func TestEdgesAreTogetherAgainWhenTheClusterWasSeenToBeReady(t *testing.T) {
	t.Parallel()
	c := laidOut(t, 7)
	start := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	c.nemesis.done = []*fault{
		{targets: touching("nats-2"), began: at(0), mended: at(2)},
		{targets: touching("edge-1"), began: at(10), mended: at(12)}, // the next one did not wait for it
		{targets: touching("redis"), began: at(12), mended: at(14), ready: at(20)},
		{targets: []target{{action: cut, touches: []string{"edge-2", "router-1"}}}, began: at(40), mended: at(45), ready: at(46)},
		{targets: touching("edge-3"), began: at(70), mended: at(71)},
	}
	c.healed = at(80)
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
		require.Equal(t, test.want, c.nemesis.together(at(test.from), at(test.to)), "%+v", test)
	}
}
