package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

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

// cutFaults are cuts between one process and everything, daemons and publishers
// included; between a tier and the other processes; between any two; and
// between two halves of the cluster; each also in one direction alone.
func cutFaults() []fault {
	var all []fault
	add := func(name string, draw func(w *world, random *rand.Rand) []blow) {
		all = append(all, fault{name: "cut-" + name, cuts: true, draw: draw})
	}
	for _, tier := range tiers {
		for _, v := range []way{bothWays, inwards, outwards} {
			add(tier.name+string(v), func(w *world, random *rand.Rand) []blow {
				return []blow{isolation(w, some(tier.of(w), 1, random)[0], v)}
			})
		}
		if tier.name != "redis" {
			add(allOf(tier.name), func(w *world, _ *rand.Rand) []blow { return []blow{seclusion(w, tier.of(w))} })
		}
	}
	for suffix, ways := range map[string][]way{"": {bothWays}, "-oneway": {inwards, outwards}} {
		add("link"+suffix, func(w *world, random *rand.Rand) []blow { return []blow{anyLink(w, random, ways)} })
		add("halves"+suffix, func(w *world, random *rand.Rand) []blow { return []blow{halves(w, random, ways)} })
	}
	add("several", func(w *world, random *rand.Rand) []blow {
		var blows []blow
		for range 2 + random.IntN(4) {
			blows = append(blows, anyLink(w, random, []way{bothWays, inwards, outwards}))
		}
		return blows
	})
	add("everything", func(w *world, _ *rand.Rand) []blow {
		hosts := hostsOf(w.Processes())
		return []blow{{action: cut, links: network.Between(hosts, hosts), what: "all from all", touches: touched(hosts)}}
	})
	slices.SortFunc(all, func(a, b fault) int { return strings.Compare(a.name, b.name) })
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
func isolation(w *world, p *process.Process, v way) blow {
	self := hostsOf([]*process.Process{p})
	others := append(without(hostsOf(w.Processes()), self), network.Outside)
	return blow{action: cut, links: v.links(self, others), what: p.Name() + " " + v.arrow() + " everything", touches: touched(self)}
}

// seclusion cuts processes off from all others; the world outside still
// reaches both.
func seclusion(w *world, all []*process.Process) blow {
	selves := hostsOf(all)
	return blow{
		action: cut, links: bothWays.links(selves, without(hostsOf(w.Processes()), selves)),
		what: strings.Join(touched(selves), " ") + " | others", touches: touched(selves),
	}
}

// anyLink cuts one process off from another, or from the world outside.
func anyLink(w *world, random *rand.Rand, ways []way) blow {
	ends := some(append(hostsOf(w.Processes()), network.Outside), 2, random)
	v := ways[random.IntN(len(ways))]
	return blow{
		action: cut, links: v.links(ends[:1], ends[1:]),
		what: fmt.Sprintf("%s %s %s", ends[0], v.arrow(), ends[1]), touches: touched(ends),
	}
}

// halves cuts the cluster in two; the world outside is on one side, or reaches
// both.
func halves(w *world, random *rand.Rand, ways []way) blow {
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
	return blow{
		action: cut, links: v.links(one, other), touches: touched(all),
		what: strings.Join(touched(one), " ") + " " + v.arrow() + " " + strings.Join(touched(other), " "),
	}
}
