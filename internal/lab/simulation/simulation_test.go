package simulation

import (
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

var (
	flagRuns  = flag.Int("runs", 0, "number of runs; 0: a number that fits a test")
	flagSteps = flag.Int("steps", 400, "steps of a run")
	flagSeed  = flag.Uint64("seed", 1, "seed of the first run; each run's is one higher")
)

// simulate makes one run and returns the first violation.
func simulate(seed uint64, steps int, m mistake) (statistics, error) {
	w := newWorld(seed, m)
	for range steps {
		w.step()
		if w.fault != nil {
			return w.stats, w.fault
		}
	}
	w.settle()
	return w.stats, w.fault
}

func (w *world) step() {
	w.stats.steps++
	e, _ := pick(w, w.edges)
	c, connected := pick(w, e.conns)
	d, _ := pick(w, w.daemons)
	rt, routing := pick(w, w.routers)
	k := w.r.IntN(1000)
	switch {
	case w.temper == restless && w.chance(.03):
		w.leave(d)
	case w.temper == slow && w.chance(.06):
		w.pass(20 * time.Second)
	case w.temper == rolledBack && w.chance(.01):
		w.rollBack()
		for _, e := range w.edges {
			w.learnEpoch(e)
		}
	case k < 120:
		w.publish()
	case k < 260:
		if routing {
			w.feed(rt)
		}
	case k < 320:
		if routing {
			w.flushLane(rt)
		}
	case k < 420:
		w.land()
	case k < 470:
		if routing {
			w.learn(rt)
		}
	case k < 530:
		if d.conn == nil {
			w.login(d)
			w.hasten(d)
		} else {
			w.subscribe(d)
		}
	case k < 680:
		if connected {
			w.work(c)
		}
	case k < 750:
		if connected {
			w.put(c)
		}
	case k < 800:
		w.hear(d)
	case k < 890:
		w.ack(d)
	case k < 920:
		w.pass(pickOf(w, 20*time.Millisecond, 60*time.Millisecond, 100*time.Millisecond, time.Second, 20*time.Second))
	default:
		w.disturb(k, e, c, d)
	}
}

// disturb is what goes wrong, and what edges do now and then.
func (w *world) disturb(k int, e *edge, c *conn, d *daemon) {
	switch {
	case k < 945:
		if key, ok := pick(w, w.sortedDirty(e)); ok {
			w.flush(e, key)
		}
	case k < 955:
		if c != nil {
			c.s.Check(w.now)
			w.carryOut(c)
		}
	case k < 962:
		w.vanish(d)
	case k < 970:
		switch {
		case c == nil:
		case c.daemon.conn != c && w.chance(.5):
			w.breakOff(c)
		case c.daemon.conn != c || w.chance(.3):
			w.end(c, w.chance(.8))
		}
	case k < 980:
		w.refreshView()
	case k < 984:
		w.crashEdge(e)
	case k < 988:
		if len(w.routers) > 1 {
			w.stats.crashes++
			w.routers = slices.Delete(w.routers, 0, 1)
		}
	case k < 993:
		if len(w.routers) < 3 {
			w.startRouter()
		}
	case k < 997:
		w.learnEpoch(e)
	default:
		if w.chance(.3) {
			w.rollBack()
		}
	}
}

// leave ends a daemon's connection, or leaves it half-open.
func (w *world) leave(d *daemon) {
	if d.conn == nil || w.chance(.6) {
		w.vanish(d)
		return
	}
	w.end(d.conn, w.chance(.8))
}

// pass lets time go by, sometimes so much that acks are overdue.
func (w *world) pass(by time.Duration) {
	w.now = w.now.Add(by)
	for _, e := range w.edges {
		for _, c := range slices.Clone(e.conns) {
			w.tick(c)
		}
	}
}

// refreshView lets the directory learn some of what is connected, late.
func (w *world) refreshView() {
	live := map[protocol.DaemonID]bool{}
	for _, name := range slices.Sorted(maps.Keys(w.edgesView)) {
		if w.edge(name) == nil && w.chance(.7) {
			delete(w.edgesView, name)
		}
	}
	for _, e := range w.edges {
		w.edgesView[e.name] = w.chance(.95)
		for _, c := range e.conns {
			live[c.id] = true
		}
	}
	for _, d := range w.daemons {
		if w.chance(.7) {
			w.connectedView[d.id] = live[d.id]
		}
	}
}

func TestNoInvariantBreaksInRandomRuns(t *testing.T) {
	t.Parallel()
	runs := *flagRuns
	if runs == 0 {
		runs = budget.Runs(600, 12_000)
	}
	var total statistics
	for seed := *flagSeed; seed < *flagSeed+uint64(runs); seed++ {
		stats, err := simulate(seed, *flagSteps, none)
		require.NoError(t, err, "go test ./internal/lab/simulation -run TestNoInvariant -args -runs 1 -seed %d", seed)
		total.add(stats)
	}
	t.Logf("%d runs, no violation: %+v", runs, total)
	require.NotZero(t, total.repeats, "the simulation must reach repeats")
	require.NotZero(t, total.deadLetters, "the simulation must reach dead letters")
	require.NotZero(t, total.rollbacks, "the simulation must reach rolled-back logs")
}

// Each mechanism of the design is taken away, and the invariant that it keeps
// breaks within some thousand runs.
func TestEachMistakeIsCaught(t *testing.T) {
	t.Parallel()
	for _, m := range mistakes {
		t.Run(string(m.mistake), func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed < 5000; seed++ {
				if _, err := simulate(seed, *flagSteps, m.mistake); err != nil {
					t.Logf("caught at seed %d: %v", seed, err)
					require.True(t, slices.ContainsFunc(m.breaks, func(what string) bool { return strings.Contains(err.Error(), what) }),
						"expected a violation of %q, got: %v", m.breaks, err)
					return
				}
			}
			require.Fail(t, "not caught", "the simulation does not notice: %s", m.mistake)
		})
	}
}

func (s *statistics) add(o statistics) {
	s.steps += o.steps
	s.published += o.published
	s.sent += o.sent
	s.acked += o.acked
	s.repeats += o.repeats
	s.catchUps += o.catchUps
	s.deadLetters += o.deadLetters
	s.crashes += o.crashes
	s.rollbacks += o.rollbacks
}
