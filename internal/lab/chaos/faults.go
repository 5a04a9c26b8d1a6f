package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/network"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// cut is an action on the network between processes: what is sent over some
// links vanishes, until that is undone.
const cut lab.Action = "cut"

// target is a process, or links, and what is done to it.
type target struct {
	action  lab.Action
	process *process.Process // nil for a cut
	links   []network.Link   // of a cut
	pace    pace             // of what is slow
	// what names the process, or the cut.
	what string
	// touches are the processes that may misbehave because of it.
	touches []string
}

func to(a lab.Action, p *process.Process) target {
	return target{action: a, process: p, what: p.Name(), touches: []string{p.Name()}}
}

// kind is something that may happen to the cluster.
type kind struct {
	name string
	// cuts says that it needs a network with links that can be cut, and narrows one
	// with links that can be slow.
	cuts, narrows bool
	// slow says that what it concerns is slow, and not gone.
	slow bool
	// draw decides what it consists of this time.
	draw func(w *lab.World, random *rand.Rand) []target
}

// fault is a kind that has happened.
type fault struct {
	name    string
	targets []target
	began   time.Time
	mended  time.Time // what was done is undone; zero: not yet
	ready   time.Time // all nodes say that they are ready; zero: not awaited, or not in time
}

// what names the targets.
func (f *fault) what() string {
	var names []string
	for _, t := range f.targets {
		names = append(names, t.what)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// touches reports whether one of some processes may misbehave because of it.
func (f *fault) touches(concerns func(process string) bool) bool {
	return slices.ContainsFunc(f.targets, func(t target) bool { return slices.ContainsFunc(t.touches, concerns) })
}

// stalls is how much longer connections may stand still after it was mended: TCP
// doubles the interval between two tries, so up to as long again as a cut has taken.
func (f *fault) stalls() time.Duration {
	if f.mended.IsZero() || !slices.ContainsFunc(f.targets, func(t target) bool { return t.action == cut || t.action == narrow }) {
		return 0
	}
	return f.mended.Sub(f.began)
}

// allKinds returns every kind: those of processes, those of the network, and
// both together.
func allKinds() []kind {
	all := slices.Concat(processKinds(), cutKinds())
	return append(all, kind{name: "mixed-several", cuts: true, draw: mixed})
}

// processKinds are each action on one process of a tier, on all of a tier, on
// several processes of any tier, and on all there are.
func processKinds() []kind {
	var all []kind
	for _, a := range []lab.Action{lab.Kill, lab.Pause, lab.Restart} {
		add := func(name string, choose func(w *lab.World, random *rand.Rand) []*process.Process) {
			all = append(all, kind{name: fmt.Sprintf("%s-%s", a, name), draw: func(w *lab.World, random *rand.Rand) (targets []target) {
				for _, p := range choose(w, random) {
					targets = append(targets, to(a, p))
				}
				return targets
			}})
		}
		for _, tier := range lab.Tiers() {
			add(tier, func(w *lab.World, random *rand.Rand) []*process.Process { return some(w.Tier(tier), 1, random) })
			if tier != "redis" {
				add(allOf(tier), func(w *lab.World, _ *rand.Rand) []*process.Process { return w.Tier(tier) })
			}
		}
		add("several", func(w *lab.World, random *rand.Rand) []*process.Process {
			return some(w.Processes(), 2+random.IntN(3), random)
		})
		add("everything", func(w *lab.World, _ *rand.Rand) []*process.Process { return w.Processes() })
	}
	return all
}

func allOf(tier string) string { return "all-" + strings.TrimSuffix(tier, "s") + "s" }

// mixed does something different to each of two or three processes.
func mixed(w *lab.World, random *rand.Rand) (targets []target) {
	actions := []lab.Action{lab.Kill, lab.Pause, lab.Restart, cut}
	random.Shuffle(len(actions), func(i, j int) { actions[i], actions[j] = actions[j], actions[i] })
	for i, p := range some(w.Processes(), 2+random.IntN(2), random) {
		if actions[i] == cut {
			targets = append(targets, isolation(w, p, bothWays))
			continue
		}
		t := to(actions[i], p)
		t.what = string(actions[i]) + " " + t.what
		targets = append(targets, t)
	}
	return targets
}

func some[T any](all []T, n int, random *rand.Rand) []T {
	var chosen []T
	for _, i := range random.Perm(len(all))[:min(n, len(all))] {
		chosen = append(chosen, all[i])
	}
	return chosen
}
