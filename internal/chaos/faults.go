package main

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/neolith/daemon-gateway/internal/e2e/cluster"
)

// action is what is done to a process.
type action string

const (
	kill    action = "kill"    // SIGKILL, and started again a little later
	pause   action = "pause"   // SIGSTOP, and SIGCONT a little later
	restart action = "restart" // SIGTERM, and started again when it has ended
)

// fault is something that may happen to the cluster.
type fault struct {
	name   string
	action action
	// targets draws the processes that it happens to, at the same time.
	targets func(w *world, random *rand.Rand) []*cluster.Process
}

// tiers are the groups of processes that faults pick from.
var tiers = []struct {
	name string
	of   func(w *world) []*cluster.Process
}{
	{"edge", func(w *world) []*cluster.Process { return processes(w.Edges) }},
	{"router", func(w *world) []*cluster.Process { return processes(w.Routers) }},
	{"bridge", func(w *world) []*cluster.Process { return processes(w.Bridges) }},
	{"nats", func(w *world) []*cluster.Process {
		var all []*cluster.Process
		for _, s := range w.NATS {
			all = append(all, s.Process)
		}
		return all
	}},
	{"redis", func(w *world) []*cluster.Process { return []*cluster.Process{w.Redis.Process} }},
}

func processes(nodes []*cluster.Node) []*cluster.Process {
	var all []*cluster.Process
	for _, n := range nodes {
		all = append(all, n.Process)
	}
	return all
}

// allFaults returns every fault: each action on one process of a tier, on all
// of a tier, on several processes of any tier, and on all there are.
func allFaults() []fault {
	var all []fault
	for _, a := range []action{kill, pause, restart} {
		for _, tier := range tiers {
			all = append(all, fault{fmt.Sprintf("%s-%s", a, tier.name), a, func(w *world, random *rand.Rand) []*cluster.Process {
				return some(tier.of(w), 1, random)
			}})
			if tier.name != "redis" {
				all = append(all, fault{fmt.Sprintf("%s-all-%ss", a, strings.TrimSuffix(tier.name, "s")), a, func(w *world, _ *rand.Rand) []*cluster.Process {
					return tier.of(w)
				}})
			}
		}
		all = append(all,
			fault{string(a) + "-several", a, func(w *world, random *rand.Rand) []*cluster.Process {
				return some(w.Processes(), 2+random.IntN(3), random)
			}},
			fault{string(a) + "-everything", a, func(w *world, _ *rand.Rand) []*cluster.Process { return w.Processes() }},
		)
	}
	return all
}

func some(all []*cluster.Process, n int, random *rand.Rand) []*cluster.Process {
	var chosen []*cluster.Process
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

// choose returns the faults whose names match one of a list of patterns.
func choose(patterns string) ([]fault, error) {
	var chosen []fault
	for _, pattern := range strings.Split(patterns, ",") {
		found := false
		for _, f := range allFaults() {
			match, err := path.Match(pattern, f.name)
			if err != nil {
				return nil, fmt.Errorf("faults %q: %w", pattern, err)
			}
			found = found || match
			if match && !slices.Contains(names(chosen), f.name) {
				chosen = append(chosen, f)
			}
		}
		if !found {
			return nil, fmt.Errorf("no fault matches %q, expected some of %s", pattern, strings.Join(names(allFaults()), ", "))
		}
	}
	return chosen, nil
}
