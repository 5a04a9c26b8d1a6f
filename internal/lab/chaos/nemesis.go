package chaos

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/network"
	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// nemesis breaks the cluster, and starts again what ends by itself, as whoever
// runs the processes in production would.
type nemesis struct {
	chaos        *chaos
	random, slow *rand.Rand

	mu     sync.Mutex
	done   []*fault
	spells int
	broken map[*process.Process]bool
}

func newNemesis(c *chaos) *nemesis {
	return &nemesis{chaos: c, random: c.Random(partFaults), slow: c.Random(partSlow), broken: map[*process.Process]bool{}}
}

// calmEvery is after how many faults, on average, nothing happens for a while:
// then nothing but the gateway can be the reason for what daemons see.
const calmEvery = 6

// plan is a fault that is to happen, and what comes after it. All of a run's
// plans follow from its seed.
type plan struct {
	fault *fault
	// A killed process is missed for a short time, since whoever runs it starts it
	// again; what else is done may last long.
	short, long time.Duration
	// Every fourth fault is followed by the next one at once. Otherwise the cluster
	// recovers, and then nothing happens for a pause, or for a calm spell.
	patient, spell bool
	pause          time.Duration
}

func (n *nemesis) next(random *rand.Rand, kinds []kind) plan {
	k := kinds[random.IntN(len(kinds))]
	p := plan{fault: &fault{name: k.name, targets: k.draw(n.chaos.World, random)}}
	p.short = 200*time.Millisecond + time.Duration(random.IntN(4000))*time.Millisecond
	p.long = p.short + time.Duration(random.IntN(8000))*time.Millisecond
	p.patient = random.IntN(4) > 0
	p.pause = time.Duration(500+random.IntN(4500)) * time.Millisecond
	p.spell = random.IntN(calmEvery) == 0
	return p
}

// run breaks things for a while, one fault after the other.
func (n *nemesis) run(ctx context.Context, kinds []kind, d time.Duration) {
	watch, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { n.supervise(watch) })
	usual := slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return k.slow })
	slow := slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return !k.slow })
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		if len(usual) > 0 {
			n.perform(ctx, n.next(n.random, usual))
		}
		if len(slow) > 0 && (len(usual) == 0 || n.slow.IntN(2) == 0) {
			n.perform(ctx, n.next(n.slow, slow))
		}
	}
	stop()
	watching.Wait()
}

func (n *nemesis) perform(ctx context.Context, p plan) {
	n.inject(ctx, p)
	if !p.patient {
		return
	}
	n.awaitReady(ctx, p.fault)
	if p.spell {
		n.chaos.Say("calm for %s", n.chaos.options.calm)
		n.spells++
		p.pause = n.chaos.options.calm
	}
	traffic.Wait(ctx, p.pause)
}

// inject does a fault to its targets side by side, and undoes it.
func (n *nemesis) inject(ctx context.Context, p plan) {
	f := p.fault
	f.began = time.Now()
	n.mu.Lock()
	n.done = append(n.done, f)
	for _, t := range f.targets {
		n.broken[t.process] = true
	}
	n.mu.Unlock()
	n.chaos.Say("%s %s", f.name, f.what())
	var tasks sync.WaitGroup
	for _, t := range f.targets {
		tasks.Go(func() { n.strike(ctx, t, p) })
	}
	tasks.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range f.targets {
		delete(n.broken, t.process)
	}
	f.mended = time.Now()
}

func (n *nemesis) strike(ctx context.Context, t target, p plan) {
	links := n.chaos.Network
	switch t.action {
	case cut:
		n.disturb(ctx, t, p.long, func() error { return links.Cut(t.links...) }, func() error { return links.Mend(t.links...) })
	case narrow:
		h := network.Host(t.process.Name())
		n.disturb(ctx, t, p.long, func() error { return links.Narrow(h, t.pace.kilobits) }, func() error { return links.Widen(h) })
	case stutter:
		n.stutter(ctx, t, p.long)
	default:
		n.chaos.Do(ctx, t.action, t.process)
		switch t.action {
		case lab.Kill:
			traffic.Wait(ctx, p.short)
		case lab.Pause:
			traffic.Wait(ctx, p.long)
		}
		n.chaos.Undo(t.action, t.process)
	}
}

// disturb does something to the network for a while.
func (n *nemesis) disturb(ctx context.Context, t target, d time.Duration, do, undo func() error) {
	if err := do(); err != nil {
		n.chaos.Find("%s: %v", t.what, err)
	}
	traffic.Wait(ctx, d)
	if err := undo(); err != nil {
		n.chaos.Find("%s: %v", t.what, err)
	}
}

// stutter has a process be slow for a while.
func (n *nemesis) stutter(ctx context.Context, t target, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		n.chaos.Do(ctx, lab.Pause, t.process)
		traffic.Wait(ctx, t.pace.still)
		n.chaos.Undo(lab.Pause, t.process)
		traffic.Wait(ctx, t.pace.going)
	}
}

// awaitReady waits until the whole cluster says that it is ready.
func (n *nemesis) awaitReady(ctx context.Context, f *fault) {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience/2)
	defer cancel()
	if err := n.chaos.AwaitReady(ctx); err != nil {
		n.chaos.Find("%s after %s the cluster is not ready: %v", time.Since(f.mended).Round(time.Second), f.name, err)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	f.ready = time.Now()
}

// supervise starts again what has ended without being told to.
func (n *nemesis) supervise(ctx context.Context) {
	for ; ctx.Err() == nil; traffic.Wait(ctx, 200*time.Millisecond) {
		for _, p := range n.chaos.Processes() {
			n.mu.Lock()
			fallen := !n.broken[p] && !p.Running()
			n.mu.Unlock()
			if fallen {
				n.chaos.Find("%s has ended by itself; it wrote:\n%s", p.Name(), p.Tail(15))
				_ = p.Start()
			}
		}
	}
}

// calm reports whether nothing disturbed any of some processes between two
// times. What follows a fault belongs to it: aftermath.
func (n *nemesis) calm(from, to time.Time, aftermath time.Duration, concerns func(process string) bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !slices.ContainsFunc(n.done, func(f *fault) bool {
		over := to
		if !f.mended.IsZero() {
			over = f.mended.Add(aftermath + f.stalls())
		}
		return f.began.Before(to) && over.After(from) && f.touches(concerns)
	})
}

// together reports whether all edges saw each other between two times: from
// the time on when, after a fault that touched one of them, all were seen to be
// there, and what TCP held back has come.
func (n *nemesis) together(from, to time.Time) bool {
	edges := map[string]bool{}
	for _, e := range n.chaos.Edges {
		edges[e.Name()] = true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, f := range n.done {
		if !f.began.Before(to) || !f.touches(func(p string) bool { return edges[p] }) {
			continue
		}
		if n.recoveredLocked(i).Add(f.stalls()).After(from) {
			return false
		}
	}
	return true
}

// recoveredLocked is when, after the i-th fault, the whole cluster was first
// seen to be ready; a time after all others if it was not. mu is held.
func (n *nemesis) recoveredLocked(i int) time.Time {
	for _, f := range n.done[i:] {
		if !f.ready.IsZero() {
			return f.ready
		}
	}
	if !n.chaos.healed.IsZero() {
		return n.chaos.healed
	}
	return time.Now()
}
