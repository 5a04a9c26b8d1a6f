package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// stopLimit is how long a process may take to end in order; more than
// SHUTDOWN_TIMEOUT.
const stopLimit = 40 * time.Second

// nemesis breaks the cluster, and starts again what ends by itself, as whoever
// runs the processes in production would.
type nemesis struct {
	w      *world
	random *rand.Rand

	mu     sync.Mutex
	done   []*injury
	spells int
	// strains have whatever reason, a busy machine too.
	strains []strain
	broken  map[*process.Process]bool
	// complaints are what processes did that no fault explains.
	complaints []string
}

// injury is a fault that has happened.
type injury struct {
	name    string
	targets []string // as they are shown
	touches []string // names of processes
	began   time.Time
	mended  time.Time // what was done is undone; zero: not yet
	// lingers is how much longer connections may stand still after mended: TCP
	// doubles its intervals, so up to as long again as a cut has taken.
	lingers time.Duration
	ready   time.Time // all nodes say that they are ready; zero: not awaited, or not in time
}

// strain is a time when the log was slow.
type strain struct{ from, to time.Time }

func newNemesis(w *world) *nemesis {
	return &nemesis{w: w, random: w.options.random(1), broken: map[*process.Process]bool{}}
}

// calmEvery is after how many faults, on average, nothing happens for a while:
// then nothing but the gateway can be the reason for what daemons see.
const calmEvery = 6

// rage breaks things for a while, one fault after the other; every fourth one
// does not wait until the cluster has recovered from the one before.
func (n *nemesis) rage(ctx context.Context, faults []fault, d time.Duration) {
	watch, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { n.supervise(watch) })
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		x := n.inject(ctx, faults[n.random.IntN(len(faults))])
		patient := n.random.IntN(4) > 0
		pause := time.Duration(500+n.random.IntN(4500)) * time.Millisecond
		spell := n.random.IntN(calmEvery) == 0
		if !patient {
			continue
		}
		n.awaitReady(ctx, x)
		if spell {
			n.w.say("calm for %s", n.w.options.calm)
			n.spells++
			pause = n.w.options.calm
		}
		wait(ctx, pause)
	}
	stop()
	watching.Wait()
}

// inject does a fault to its targets, and undoes it.
func (n *nemesis) inject(ctx context.Context, f fault) *injury {
	blows := f.draw(n.w, n.random)
	x := &injury{name: f.name, began: time.Now()}
	short := 200*time.Millisecond + time.Duration(n.random.IntN(4000))*time.Millisecond
	long := short + time.Duration(n.random.IntN(8000))*time.Millisecond
	for _, b := range blows {
		x.targets = append(x.targets, b.what)
		x.touches = append(x.touches, b.touches...)
	}
	slices.Sort(x.targets)
	n.mu.Lock()
	n.done = append(n.done, x)
	for _, b := range blows {
		n.broken[b.process] = true
	}
	n.mu.Unlock()
	n.w.say("%s %s", x.name, x.what())
	var tasks sync.WaitGroup
	for _, b := range blows {
		tasks.Go(func() { n.strike(ctx, b, short, long) })
	}
	tasks.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range blows {
		delete(n.broken, b.process)
	}
	x.mended = time.Now()
	if slices.ContainsFunc(blows, func(b blow) bool { return b.action == cut }) {
		x.lingers = x.mended.Sub(x.began)
	}
	return x
}

func (x *injury) what() string { return strings.Join(x.targets, ", ") }

// strike strikes a blow and undoes it: a killed process is missed for a short
// time, since whoever runs it starts it again; other faults may take long.
func (n *nemesis) strike(ctx context.Context, b blow, short, long time.Duration) {
	switch b.action {
	case cut:
		n.cut(ctx, b, long)
	case pause:
		n.hurt(ctx, b.action, b.process, long)
	default:
		n.hurt(ctx, b.action, b.process, short)
	}
}

func (n *nemesis) cut(ctx context.Context, b blow, down time.Duration) {
	if err := n.w.network.Cut(b.links...); err != nil {
		n.complain("%s: %v", b.what, err)
	}
	wait(ctx, down)
	if err := n.w.network.Mend(b.links...); err != nil {
		n.complain("%s: %v", b.what, err)
	}
}

func (n *nemesis) hurt(ctx context.Context, a action, p *process.Process, down time.Duration) {
	switch a {
	case kill:
		p.Kill()
		wait(ctx, down)
	case pause:
		_ = p.Pause()
		wait(ctx, down)
		p.Resume()
		return
	case restart:
		n.stop(ctx, p)
	}
	if err := p.Start(); err != nil {
		n.complain("%s does not start: %v", p.Name(), err)
	}
}

// stop ends a process in order, and complains if that is not how it ends.
func (n *nemesis) stop(ctx context.Context, p *process.Process) {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	code, err := p.End(ctx, syscall.SIGTERM)
	isNode := slices.ContainsFunc(n.w.Nodes(), func(node *cluster.Node) bool { return node.Process == p })
	switch {
	case err != nil:
		n.complain("%s does not end: %v", p.Name(), err)
		p.Kill()
	case code > 0 && isNode: // a NATS server ends with 1; -1: it had not begun to listen to signals
		n.complain("%s was to end in order and exited with code %d; it wrote:\n%s", p.Name(), code, p.Tail(15))
	}
}

func (n *nemesis) complain(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.w.say("%s", text)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.complaints = append(n.complaints, text)
}

// awaitReady waits until the whole cluster says that it is ready.
func (n *nemesis) awaitReady(ctx context.Context, x *injury) {
	ctx, cancel := context.WithTimeout(ctx, patience/2)
	defer cancel()
	if err := n.w.AwaitReady(ctx); err != nil {
		n.complain("%s after %s the cluster is not ready: %v", time.Since(x.mended).Round(time.Second), x.name, err)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	x.ready = time.Now()
}

// supervise starts again what has ended without being told to.
func (n *nemesis) supervise(ctx context.Context) {
	for ; ctx.Err() == nil; wait(ctx, 200*time.Millisecond) {
		for _, p := range n.w.Processes() {
			n.mu.Lock()
			fallen := !n.broken[p] && !p.Running()
			n.mu.Unlock()
			if fallen {
				n.complain("%s has ended by itself; it wrote:\n%s", p.Name(), p.Tail(15))
				_ = p.Start()
			}
		}
	}
}

// strained says that a publish took long.
func (n *nemesis) strained(began time.Time, took time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.strains = append(n.strains, strain{began, began.Add(took)})
}

// unstrained reports whether the log answered at once between two times.
func (n *nemesis) unstrained(from, to time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !slices.ContainsFunc(n.strains, func(s strain) bool { return s.from.Before(to) && s.to.After(from) })
}

// calm reports whether nothing disturbed any of some processes between two
// times. What follows a fault belongs to it: aftermath.
func (n *nemesis) calm(from, to time.Time, aftermath time.Duration, concerns func(process string) bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !slices.ContainsFunc(n.done, func(x *injury) bool {
		over := to
		if !x.mended.IsZero() {
			over = x.mended.Add(aftermath + x.lingers)
		}
		return x.began.Before(to) && over.After(from) && slices.ContainsFunc(x.touches, concerns)
	})
}

// together reports whether all edges saw each other between two times: from
// the time on when, after a fault that touched one of them, all were seen to be
// there, and what TCP held back has come.
func (n *nemesis) together(from, to time.Time) bool {
	edges := map[string]bool{}
	for _, e := range n.w.Edges {
		edges[e.Name()] = true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, x := range n.done {
		if !x.began.Before(to) || !slices.ContainsFunc(x.touches, func(p string) bool { return edges[p] }) {
			continue
		}
		if n.recoveredLocked(i).Add(x.lingers).After(from) {
			return false
		}
	}
	return true
}

// recoveredLocked is when, after the i-th fault, the whole cluster was first
// seen to be ready; a time after all others if it was not.
func (n *nemesis) recoveredLocked(i int) time.Time {
	for _, x := range n.done[i:] {
		if !x.ready.IsZero() {
			return x.ready
		}
	}
	if !n.w.healed.IsZero() {
		return n.w.healed
	}
	return time.Now()
}
