// Package balance decides when an edge sends connections away because it holds
// more than its share: after a rolling restart the edge that came last would be
// empty, and the first one full. It is pure: it is told what the directory
// shows and what time it is, and answers how many connections may be told to go.
//
// What is sent away lands wherever the load balancer puts it, on the same edge
// too, so an edge looks only at its own excess over the mean, which no other
// edge's excess overlaps with, and at how many it has told already. Three rules
// keep connections from wandering for nothing:
//
//   - an edge begins above 10 % over the mean and goes on to 5 %, so that what
//     happens to come afterwards does not start it again;
//   - it begins only when it has been over the mean for a while in which no edge
//     came, went or drained;
//   - an edge that has told twice as many as all edges together have over the
//     mean, and sees them no better spread for it, gives up for an hour, the next time
//     for two, at most for a day: something spreads the connections
//     in another way (weights, stickiness, other edges that are full).
package balance

import (
	"cmp"
	"slices"
	"time"
)

// Shares of the mean at which an edge begins and ends.
const (
	begin = 1.10
	end   = 1.05
)

const (
	// effort is how many times what all edges have over the mean is told before it
	// is judged whether that helps. Of two edges with an even load balancer, every
	// second connection comes back.
	effort = 2
	// landing is how long those who were told last are given to be connected
	// again, before it is judged what it was good for.
	landing = 30 * time.Second
	// progress is the share that may remain at most of what all edges had over the
	// mean.
	progress = 0.9
	// After giving up once, and after doing so again and again.
	shortestRest = time.Hour
	longestRest  = 24 * time.Hour
)

// Config is what an operator may set.
type Config struct {
	// Rate is how many connections are told at a Tick at most; 0: none ever.
	Rate int
	// Minimum is how many connections an edge keeps in any case.
	Minimum int
	// After is for how long the edges must have been the same, and this one over
	// the mean.
	After time.Duration
}

// Edge is a live edge as the directory shows it.
type Edge struct {
	Name        string
	Connections int
	Draining    bool
}

// View is what an edge sees at a Tick.
type View struct {
	// Self names the edge that looks.
	Self  string
	Edges []Edge // ordered by name
	// Leaving is how many of its own connections have been told and not gone yet.
	Leaving int
	// Current: what the directory shows is not known to be behind.
	Current bool
}

// Step is a turn that an operator may want to read of.
type Step int

// The steps.
const (
	None Step = iota
	Began
	Balanced
	GaveUp
	// Stopped: the edges have changed.
	Stopped
)

// Decision is the answer to a Tick.
type Decision struct {
	// Tell is how many connections may be told to go.
	Tell int
	Step Step
	// Own and Mean are the numbers it was made from.
	Own  int
	Mean float64
}

// Balancer decides for one edge. It is not safe for concurrent use.
type Balancer struct {
	cfg Config

	edges     []Edge    // at the last Tick
	since     time.Time // when the edges last changed, or this one was not over the mean
	shedding  bool
	surplus   int // the most that all edges had over the mean meanwhile
	told      int // since it began
	urgent    int // the rate at which an operator wants it; 0: nobody does
	judge     bool
	rest      time.Duration
	restUntil time.Time
}

// New returns a Balancer that has seen nothing yet.
func New(cfg Config) *Balancer { return &Balancer{cfg: cfg} }

// Tick decides; it is to be called about once a second. Whoever tells
// connections reports it with Told.
func (b *Balancer) Tick(v View, now time.Time) Decision {
	mean, own := v.measure()
	d := Decision{Own: own, Mean: mean}
	switch {
	case b.changed(v.Edges):
		if b.shedding {
			d.Step = Stopped
		}
		*b = Balancer{cfg: b.cfg, edges: b.edges, since: now}
	case !v.Current || len(v.Edges) < 2 || v.draining():
	case b.shedding:
		b.surplus = max(b.surplus, v.surplus(mean))
		b.shed(&d, now)
	case b.ready(own, mean, now):
		b.start(&d, v.surplus(mean), now)
	}
	return d
}

// Plan is what an edge would send away if it were to balance now.
type Plan struct {
	Own  int
	Mean float64
	// Excess is how many connections are to go, at Rate a Tick.
	Excess, Rate int
	// Keeps says why none is.
	Keeps string
}

// urgentRate is how many connections are told at a Tick for an operator's sake,
// where the configured rate is 0.
const urgentRate = 20

// Plan says what would be sent away now, however long the edges have been as they
// are.
func (b *Balancer) Plan(v View) Plan {
	mean, own := v.measure()
	p := Plan{Own: own, Mean: mean, Rate: cmp.Or(b.cfg.Rate, urgentRate)}
	switch excess := b.excess(own, mean); {
	case !v.Current:
		p.Keeps = "what this edge knows of the others is behind"
	case len(v.Edges) < 2:
		p.Keeps = "there is no other edge"
	case v.draining():
		p.Keeps = "an edge drains, and it is not known yet where its connections go"
	case excess > 0:
		p.Excess = excess
	case float64(own) > end*mean:
		p.Keeps = "an edge keeps as many in any case (BALANCE_MINIMUM)"
	default:
		p.Keeps = "it holds no more than its share"
	}
	return p
}

// Begin begins with what Plan says, without waiting for anything, and goes on until
// the edge holds its share, the edges change, or what was told has not helped.
func (b *Balancer) Begin(v View) Plan {
	p := b.Plan(v)
	if p.Excess > 0 {
		b.changed(v.Edges)
		b.shedding, b.judge, b.told, b.urgent = true, false, 0, p.Rate
		b.surplus = v.surplus(p.Mean)
	}
	return p
}

// Urgent reports whether it is on an operator's wish that connections are sent away.
func (b *Balancer) Urgent() bool { return b.urgent > 0 }

// Told reports how many connections have been told.
func (b *Balancer) Told(n int) { b.told += n }

// ready reports whether to begin.
func (b *Balancer) ready(own int, mean float64, now time.Time) bool {
	if b.cfg.Rate <= 0 || float64(own) <= begin*mean || b.excess(own, mean) <= 0 {
		b.since = now
		return false
	}
	return now.Sub(b.since) >= b.cfg.After && !now.Before(b.restUntil)
}

// start begins, unless what was told last was in vain.
func (b *Balancer) start(d *Decision, surplus int, now time.Time) {
	if b.judge && float64(surplus) > progress*float64(b.surplus) {
		b.judge = false
		b.rest = min(max(2*b.rest, shortestRest), longestRest)
		b.restUntil = now.Add(b.rest)
		d.Step = GaveUp
		return
	}
	if !b.judge {
		d.Step = Began
	}
	b.shedding, b.surplus, b.told = true, surplus, 0
	b.shed(d, now)
}

// shed goes on until the edge holds its share, or it is time to judge.
func (b *Balancer) shed(d *Decision, now time.Time) {
	excess := b.excess(d.Own, d.Mean)
	switch {
	case excess <= 0:
		d.Step = Balanced
		b.shedding, b.judge, b.rest, b.since, b.urgent = false, false, 0, now, 0
	case b.told >= effort*b.surplus:
		b.shedding, b.judge, b.restUntil, b.urgent = false, true, now.Add(landing), 0
	default:
		d.Tell = min(excess, effort*b.surplus-b.told, cmp.Or(b.urgent, b.cfg.Rate))
	}
}

// excess is how many connections are more than an edge is to end with.
func (b *Balancer) excess(own int, mean float64) int {
	return own - max(int(end*mean), b.cfg.Minimum)
}

// changed notes the edges and reports whether they are not the same as before,
// or one of them has begun or ceased to drain.
func (b *Balancer) changed(edges []Edge) bool {
	same := slices.EqualFunc(b.edges, edges, func(x, y Edge) bool {
		return x.Name == y.Name && x.Draining == y.Draining
	})
	if !same {
		b.edges = slices.Clone(edges)
	}
	return !same
}

// measure returns the mean over all edges, and what the own edge will hold once
// those that were told have gone. They count in the mean, since they will be
// somewhere.
func (v View) measure() (mean float64, own int) {
	total := 0
	for _, e := range v.Edges {
		total += e.Connections
		if e.Name == v.Self {
			own = e.Connections - v.Leaving
		}
	}
	return float64(total) / float64(max(1, len(v.Edges))), own
}

// surplus returns how many connections all edges together have over the mean.
func (v View) surplus(mean float64) int {
	sum := 0.0
	for _, e := range v.Edges {
		sum += max(0, float64(e.Connections)-mean)
	}
	return int(sum)
}

// draining reports whether an edge drains: where its connections go is not
// known yet.
func (v View) draining() bool {
	return slices.ContainsFunc(v.Edges, func(e Edge) bool { return e.Draining })
}
