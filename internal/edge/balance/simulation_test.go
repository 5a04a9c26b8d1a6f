package balance

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
)

// world is edges with daemons on them, and a load balancer; a step is a second.
type world struct {
	random *rand.Rand
	now    time.Time
	edges  []*edge
	away   []*daemon // told, and on their way
	spread spread
	moves  int // by balancing
}

type edge struct {
	name       string
	up         bool
	capacity   int
	daemons    []*daemon // longest connected first
	shown      [lag]int  // connections as the directory showed them, newest first
	balancer   *Balancer
	incarnated int
}

type daemon struct {
	id    int
	since time.Time
	back  time.Time // when it connects again
	moved int
}

// spread is a load balancer: it returns one of the edges.
type spread func(w *world, d *daemon, edges []*edge) *edge

// lag is for how many seconds the directory is behind the truth; longest is
// how long a daemon takes to connect again.
const (
	lag     = 3
	longest = 5
)

func evenly(w *world, _ *daemon, edges []*edge) *edge { return edges[w.random.IntN(len(edges))] }

func leastConnections(_ *world, _ *daemon, edges []*edge) *edge {
	return slices.MinFunc(edges, func(a, b *edge) int { return len(a.daemons) - len(b.daemons) })
}

// sticky sends half of all daemons to the first edge, and each always to the same.
func sticky(_ *world, d *daemon, edges []*edge) *edge {
	h := fnv.New32a()
	_, _ = h.Write([]byte(strconv.Itoa(d.id)))
	n := int(h.Sum32() % uint32(2*len(edges)))
	if n >= len(edges) {
		n = 0
	}
	return edges[n]
}

func newWorld(seed uint64, edges, daemons int, s spread) *world {
	w := &world{random: rand.New(rand.NewPCG(seed, 0)), now: start, spread: s}
	for i := range edges {
		w.edges = append(w.edges, &edge{capacity: daemons})
		w.start(i)
	}
	for i := range daemons {
		w.connect(&daemon{id: i})
	}
	return w
}

func (w *world) start(i int) {
	e := w.edges[i]
	e.incarnated++
	e.name, e.up, e.balancer = fmt.Sprintf("edge-%02d-%d", i, e.incarnated), true, New(config)
}

func (w *world) connect(d *daemon) {
	var open []*edge
	for _, e := range w.edges {
		if e.up && len(e.daemons) < e.capacity {
			open = append(open, e)
		}
	}
	d.since = w.now
	e := w.spread(w, d, open)
	e.daemons = append(e.daemons, d)
}

// leave takes the longest connected daemons of an edge away for a while.
func (w *world) leave(e *edge, n int) {
	for _, d := range e.daemons[:n] {
		d.back = w.now.Add(time.Duration(1+w.random.IntN(longest)) * time.Second)
		w.away = append(w.away, d)
	}
	e.daemons = e.daemons[n:]
}

// step lets a second pass.
func (w *world) step() {
	w.now = w.now.Add(time.Second)
	w.away = slices.DeleteFunc(w.away, func(d *daemon) bool {
		back := !w.now.Before(d.back)
		if back {
			w.connect(d)
		}
		return back
	})
	for _, e := range w.edges {
		copy(e.shown[1:], e.shown[:])
		e.shown[0] = len(e.daemons)
	}
	v := View{Current: true}
	for _, e := range w.edges {
		if e.up {
			v.Edges = append(v.Edges, Edge{Name: e.name, Connections: e.shown[lag-1]})
		}
	}
	i := 0
	for _, e := range w.edges {
		if e.up {
			w.balance(e, v, i)
			i++
		}
	}
}

// balance lets an edge, the i-th in the view, do what it does every second. Of
// its own connections it knows the truth.
func (w *world) balance(e *edge, v View, i int) {
	shown := v.Edges[i].Connections
	v.Self, v.Edges[i].Connections = e.name, len(e.daemons)
	defer func() { v.Edges[i].Connections = shown }()
	n := e.balancer.Tick(v, w.now).Tell
	for i, d := range e.daemons[:n] {
		if w.now.Sub(d.since) < config.After {
			n = i
			break
		}
		d.moved++
	}
	e.balancer.Told(n)
	w.moves += n
	w.leave(e, n)
}

func (w *world) pass(d time.Duration) {
	for range int(d / time.Second) {
		w.step()
	}
}

// restartAll restarts one edge after the other, each draining over 20 s.
func (w *world) restartAll() {
	const drain = 20
	for i, e := range w.edges {
		e.up = false
		share := len(e.daemons)/drain + 1
		for range drain {
			w.leave(e, min(share, len(e.daemons)))
			w.step()
		}
		w.pass(15 * time.Second)
		w.start(i)
		w.pass(15 * time.Second)
	}
}

func (w *world) connections() []int {
	var all []int
	for _, e := range w.edges {
		all = append(all, len(e.daemons))
	}
	return all
}

// excess is how many connections are over the mean, over all edges, and the
// largest edge's share of the mean.
func (w *world) excess() (total, largest float64) {
	sum := 0
	for _, n := range w.connections() {
		sum += n
	}
	mean := float64(sum) / float64(len(w.edges))
	for _, n := range w.connections() {
		total += max(0, float64(n)-mean)
		largest = max(largest, float64(n)/mean)
	}
	return total, largest
}

func TestAfterARollingRestartEdgesBecomeBalanced(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]spread{"evenly": evenly, "least connections": leastConnections} {
		for _, edges := range []int{2, 3, 5, 20} {
			for seed := range budget.Runs[uint64](1, 20) {
				t.Run(fmt.Sprintf("%s, %d edges, seed %d", name, edges, seed), func(t *testing.T) {
					t.Parallel()
					w := newWorld(seed, edges, 1000*edges, s)
					w.restartAll()
					require.Zero(t, w.moves, "nothing is moved while edges come and go")
					excess, largest := w.excess()
					if name == "evenly" {
						require.Greater(t, largest, 1.4, "the first edge is full: %v", w.connections())
					}
					require.Empty(t, w.edges[edges-1].daemons, "and the last is empty")

					w.pass(time.Hour)
					after, largest := w.excess()
					t.Logf("%.0f over the mean, %d moves, then %.0f over and %.3f of the mean at most: %v", excess, w.moves, after, largest, w.connections())
					require.LessOrEqual(t, largest, begin, "%v", w.connections())
					// Of two edges with an even load balancer, every second one comes back.
					require.LessOrEqual(t, float64(w.moves), 3*excess)
					w.movedAtMost(t, 3)

					moves := w.moves
					w.pass(2 * time.Hour)
					require.Equal(t, moves, w.moves, "and they rest: %v", w.connections())
				})
			}
		}
	}
}

func (w *world) movedAtMost(t *testing.T, times int) {
	t.Helper()
	for _, e := range w.edges {
		for _, d := range e.daemons {
			require.LessOrEqual(t, d.moved, times, "daemon %d", d.id)
		}
	}
}

// Daemons that come and go all the time keep no edge at work.
func TestComingAndGoingDoesNotKeepConnectionsMoving(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5, 5000, evenly)
	const hours, churn = 3, 2 // daemons a second
	for range hours * 3600 {
		for range churn {
			if e := w.edges[w.random.IntN(len(w.edges))]; len(e.daemons) > 0 {
				w.leave(e, 1)
			}
		}
		w.step()
	}
	t.Logf("%d moves beside %d that came and went: %v", w.moves, hours*3600*churn, w.connections())
	require.Less(t, w.moves, hours*3600*churn/100)
}

// A load balancer that always sends a daemon to the same edge, or cannot send
// it elsewhere, is not fought.
func TestWhatTheLoadBalancerInsistsOnIsNotFought(t *testing.T) {
	t.Parallel()
	full := newWorld(2, 3, 3000, evenly)
	for _, e := range full.edges[1:] {
		w := full
		e.capacity = 500
		w.leave(e, len(e.daemons)-500)
	}
	for name, w := range map[string]*world{"sticky": newWorld(1, 3, 3000, sticky), "the others are full": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.pass(time.Minute)
			excess, largest := w.excess()
			require.Greater(t, largest, begin)
			w.pass(24 * time.Hour)
			t.Logf("%.0f over the mean, %d moves in a day", excess, w.moves)
			require.Positive(t, w.moves, "it was worth trying")
			require.LessOrEqual(t, float64(w.moves), 5*effort*excess, "tried five times in a day")
			// Each of the five times it is the turn of those that were not told before.
			w.movedAtMost(t, 5*effort)
		})
	}
}
