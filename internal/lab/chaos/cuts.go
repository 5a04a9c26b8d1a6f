package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/network"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// way is which of the two directions of a cut are gone.
type way string

const (
	bothWays way = ""
	inwards  way = "-in"  // nothing comes to it
	outwards way = "-out" // nothing comes from it
)

func (v way) links(of, others []network.Host) []network.Link {
	switch v {
	case inwards:
		return network.Between(others, of)
	case outwards:
		return network.Between(of, others)
	}
	return slices.Concat(network.Between(of, others), network.Between(others, of))
}

// arrow shows a way between two names.
func (v way) arrow() string {
	return map[way]string{bothWays: "|", inwards: "<-/-", outwards: "-/->"}[v]
}

// cutKinds are cuts between one process and everything, daemons and publishers
// included; between a tier and the other processes; between any two; and
// between two halves of the cluster; each also in one direction alone.
func cutKinds() []kind {
	var all []kind
	add := func(name string, draw func(w *lab.World, random *rand.Rand) []target) {
		all = append(all, kind{name: "cut-" + name, cuts: true, draw: draw})
	}
	for _, tier := range lab.Tiers() {
		for _, v := range []way{bothWays, inwards, outwards} {
			add(tier+string(v), func(w *lab.World, random *rand.Rand) []target {
				return []target{isolation(w, some(w.Tier(tier), 1, random)[0], v)}
			})
		}
		if tier != "redis" {
			add(allOf(tier), func(w *lab.World, _ *rand.Rand) []target { return []target{seclusion(w, w.Tier(tier))} })
		}
	}
	for suffix, ways := range map[string][]way{"": {bothWays}, "-oneway": {inwards, outwards}} {
		add("link"+suffix, func(w *lab.World, random *rand.Rand) []target { return []target{anyLink(w, random, ways)} })
		add("halves"+suffix, func(w *lab.World, random *rand.Rand) []target { return []target{halves(w, random, ways)} })
	}
	add("several", func(w *lab.World, random *rand.Rand) []target {
		var targets []target
		for range 2 + random.IntN(4) {
			targets = append(targets, anyLink(w, random, []way{bothWays, inwards, outwards}))
		}
		return targets
	})
	add("everything", func(w *lab.World, _ *rand.Rand) []target {
		hosts := hostsOf(w.Processes())
		return []target{{action: cut, links: network.Between(hosts, hosts), what: "all from all", touches: touched(hosts)}}
	})
	slices.SortFunc(all, func(a, b kind) int { return strings.Compare(a.name, b.name) })
	return all
}

func hostsOf(processes []*process.Process) []network.Host {
	var hosts []network.Host
	for _, p := range processes {
		hosts = append(hosts, network.Host(p.Name()))
	}
	return hosts
}

func without(all, some []network.Host) []network.Host {
	return slices.DeleteFunc(slices.Clone(all), func(h network.Host) bool { return slices.Contains(some, h) })
}

func touched(hosts []network.Host) []string {
	var names []string
	for _, h := range hosts {
		names = append(names, string(h))
	}
	return names
}

// isolation cuts a process off from everything, the world outside included.
func isolation(w *lab.World, p *process.Process, v way) target {
	self := hostsOf([]*process.Process{p})
	others := append(without(hostsOf(w.Processes()), self), network.Outside)
	return target{action: cut, links: v.links(self, others), what: p.Name() + " " + v.arrow() + " everything", touches: touched(self)}
}

// seclusion cuts processes off from all others; the world outside still
// reaches both.
func seclusion(w *lab.World, all []*process.Process) target {
	selves := hostsOf(all)
	return target{
		action: cut, links: bothWays.links(selves, without(hostsOf(w.Processes()), selves)),
		what: strings.Join(touched(selves), " ") + " | others", touches: touched(selves),
	}
}

// anyLink cuts one process off from another, or from the world outside.
func anyLink(w *lab.World, random *rand.Rand, ways []way) target {
	ends := some(append(hostsOf(w.Processes()), network.Outside), 2, random)
	v := ways[random.IntN(len(ways))]
	return target{
		action: cut, links: v.links(ends[:1], ends[1:]),
		what: fmt.Sprintf("%s %s %s", ends[0], v.arrow(), ends[1]), touches: touched(ends),
	}
}

// halves cuts the cluster in two; the world outside is on one side, or reaches
// both.
func halves(w *lab.World, random *rand.Rand, ways []way) target {
	all := hostsOf(w.Processes())
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	one, other := slices.Clone(all[:len(all)/2]), slices.Clone(all[len(all)/2:])
	switch random.IntN(3) {
	case 0:
		one = append(one, network.Outside)
	case 1:
		other = append(other, network.Outside)
	}
	v := ways[random.IntN(len(ways))]
	return target{
		action: cut, links: v.links(one, other), touches: touched(all),
		what: strings.Join(touched(one), " ") + " " + v.arrow() + " " + strings.Join(touched(other), " "),
	}
}
