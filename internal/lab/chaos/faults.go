package main

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/network"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// action is what is done to a process, or to the network between processes.
type action string

const (
	kill    action = "kill"    // SIGKILL, and started again a little later
	pause   action = "pause"   // SIGSTOP, and SIGCONT a little later
	restart action = "restart" // SIGTERM, and started again when it has ended
	cut     action = "cut"     // what is sent over some links vanishes for a while
)

// blow is one of the things that a fault does at the same time.
type blow struct {
	action  action
	process *process.Process // nil for a cut
	links   []network.Link   // of a cut
	// what names the process, or the cut.
	what string
	// touches are the processes that may misbehave because of it.
	touches []string
}

func blowTo(a action, p *process.Process) blow {
	return blow{action: a, process: p, what: p.Name(), touches: []string{p.Name()}}
}

func blowsTo(a action, all []*process.Process) []blow {
	var blows []blow
	for _, p := range all {
		blows = append(blows, blowTo(a, p))
	}
	return blows
}

// fault is something that may happen to the cluster.
type fault struct {
	name string
	// cuts says that it needs a network with links that can be cut.
	cuts bool
	// draw decides what it consists of this time.
	draw func(w *world, random *rand.Rand) []blow
}

// tiers are the groups of processes that faults pick from.
var tiers = []struct {
	name string
	of   func(w *world) []*process.Process
}{
	{"edge", func(w *world) []*process.Process { return processes(w.Edges) }},
	{"router", func(w *world) []*process.Process { return processes(w.Routers) }},
	{"bridge", func(w *world) []*process.Process { return processes(w.Bridges) }},
	{"nats", func(w *world) []*process.Process {
		var all []*process.Process
		for _, s := range w.NATS {
			all = append(all, s.Process)
		}
		return all
	}},
	{"redis", func(w *world) []*process.Process { return []*process.Process{w.Redis.Process} }},
}

func processes(nodes []*cluster.Node) []*process.Process {
	var all []*process.Process
	for _, n := range nodes {
		all = append(all, n.Process)
	}
	return all
}

// allFaults returns every fault: those of processes, those of the network, and
// both together.
func allFaults() []fault {
	all := slices.Concat(processFaults(), cutFaults())
	return append(all, fault{name: "mixed-several", cuts: true, draw: mixed})
}

// processFaults are each action on one process of a tier, on all of a tier, on
// several processes of any tier, and on all there are.
func processFaults() []fault {
	var all []fault
	for _, a := range []action{kill, pause, restart} {
		add := func(name string, targets func(w *world, random *rand.Rand) []*process.Process) {
			all = append(all, fault{name: fmt.Sprintf("%s-%s", a, name), draw: func(w *world, random *rand.Rand) []blow {
				return blowsTo(a, targets(w, random))
			}})
		}
		for _, tier := range tiers {
			add(tier.name, func(w *world, random *rand.Rand) []*process.Process { return some(tier.of(w), 1, random) })
			if tier.name != "redis" {
				add(allOf(tier.name), func(w *world, _ *rand.Rand) []*process.Process { return tier.of(w) })
			}
		}
		add("several", func(w *world, random *rand.Rand) []*process.Process {
			return some(w.Processes(), 2+random.IntN(3), random)
		})
		add("everything", func(w *world, _ *rand.Rand) []*process.Process { return w.Processes() })
	}
	return all
}

func allOf(tier string) string { return "all-" + strings.TrimSuffix(tier, "s") + "s" }

// mixed does something else to each of two or three processes.
func mixed(w *world, random *rand.Rand) []blow {
	actions := []action{kill, pause, restart, cut}
	random.Shuffle(len(actions), func(i, j int) { actions[i], actions[j] = actions[j], actions[i] })
	var blows []blow
	for i, p := range some(w.Processes(), 2+random.IntN(2), random) {
		if actions[i] == cut {
			blows = append(blows, isolation(w, p, bothWays))
		} else {
			b := blowTo(actions[i], p)
			b.what = string(actions[i]) + " " + b.what
			blows = append(blows, b)
		}
	}
	return blows
}

func some[T any](all []T, n int, random *rand.Rand) []T {
	var chosen []T
	for _, i := range random.Perm(len(all))[:min(n, len(all))] {
		chosen = append(chosen, all[i])
	}
	return chosen
}

func names(faults []fault) []string {
	var all []string
	for _, f := range faults {
		all = append(all, f.name)
	}
	return all
}

// choose returns the faults whose names match one of a list of patterns,
// without those that cut links where there are none to cut.
func choose(patterns string, links bool) ([]fault, error) {
	var chosen []fault
	for _, pattern := range strings.Split(patterns, ",") {
		found := false
		for _, f := range allFaults() {
			match, err := path.Match(pattern, f.name)
			if err != nil {
				return nil, fmt.Errorf("faults %q: %w", pattern, err)
			}
			found = found || match
			if match && (links || !f.cuts) && !slices.Contains(names(chosen), f.name) {
				chosen = append(chosen, f)
			}
		}
		if !found {
			return nil, fmt.Errorf("no fault matches %q, expected some of %s", pattern, strings.Join(names(allFaults()), ", "))
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("faults %q all cut links, and there is no private network", patterns)
	}
	return chosen, nil
}
