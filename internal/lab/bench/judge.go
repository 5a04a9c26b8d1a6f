package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/load"
)

// bound is what a figure may be at most.
type bound struct {
	figure string
	most   float64
	// unit is another figure, whose limit the figure is divided by; empty: none.
	unit string
}

// bounds are four to six times what is measured: they are for what has become
// several times as dear. Allocations hardly depend on the machine. Processor time
// does, and on what else the machine does, but far less than anything that is
// timed: beside busy loops it stays within a factor of two.
var bounds = []bound{
	{figure: "from Redis, allocations of edges, each", most: 100},  // 26
	{figure: "from Redis, allocations of router, each", most: 50},  // 12
	{figure: "from Redis, allocations of bridge, each", most: 160}, // 41
	{figure: "from Redis, CPU of edges, µs each", most: 25, unit: pushCPU},
	{figure: "from Redis, CPU of router, µs each", most: 10, unit: pushCPU},
	{figure: "from Redis, CPU of bridge, µs each", most: 12, unit: pushCPU},
	{figure: "from Redis, CPU of NATS, µs each", most: 25, unit: "from Redis, CPU of NATS, µs each"},
}

// attempts is how often a bound must be exceeded, one run after the other,
// before that is a finding.
const attempts = 3

// judge measures for a moment, and again while a bound is exceeded.
func (b *bench) judge(ctx context.Context) error {
	b.options.daemons, b.options.duration, b.options.warmUp = shortDaemons, shortLimit, 0
	b.chosen = []measurement{{name: "short", measure: (*bench).count, layout: layout{edges: 2}, in: fromRedis}}
	var exceeded []string
	for attempt := range attempts {
		b.results = newResults()
		if err := b.short(ctx, attempt); err != nil {
			return err
		}
		if err := b.results.print(os.Stdout); err != nil {
			return err
		}
		if exceeded = b.results.exceeded(bounds); len(exceeded) == 0 {
			return nil
		}
		b.Say("run %d of at most %d exceeds: %v", attempt+1, attempts, exceeded)
	}
	for _, text := range exceeded {
		b.Find("in %d runs one after the other: %s", attempts, text)
	}
	return nil
}

func (r *results) exceeded(bounds []bound) (texts []string) {
	for _, x := range bounds {
		value, of := r.median(x.figure, this), ""
		if x.unit != "" {
			value, of = value/r.median(x.unit, limit), ", divided by the limit of "+x.unit
		}
		if value > x.most { // never where it is not a number
			texts = append(texts, fmt.Sprintf("%s%s: %s, expected at most %s", x.figure, of, rounded(value), rounded(x.most)))
		}
	}
	return texts
}

// short publishes a number of events, not for a time: on a machine that stands
// still for a while all of them come nonetheless.
func (b *bench) short(ctx context.Context, run int) error {
	if err := b.run(ctx, run, b.chosen[0], contestant{name: this, binaries: b.Binaries}); err != nil {
		return err
	}
	return b.limits(ctx, run)
}

const (
	shortDaemons = 200
	shortLimit   = 2 * time.Second // each
	shortWarmUp  = 5_000           // events
	shortEvents  = 30_000          // events
)

// count measures what each of a number of events costs on their way from Redis,
// which takes them through all tiers.
func (b *bench) count(ctx context.Context, s *system) error {
	f, err := b.fleet(ctx, s, b.options.daemons)
	if err != nil {
		return err
	}
	defer f.Close()
	entrance, err := s.openRedis()
	if err != nil {
		return err
	}
	p := load.NewPublisher(f, entrance)
	if err := p.Count(ctx, shortWarmUp, b.options.underWay); err != nil {
		return errors.Join(err, entrance.Close())
	}
	costs, err := s.meter(ctx)
	if err != nil {
		return errors.Join(err, entrance.Close())
	}
	if err := p.Count(ctx, shortEvents, b.options.underWay); err != nil {
		return errors.Join(err, entrance.Close())
	}
	err = errors.Join(costs.add(ctx, b.results, fromRedis.name, shortEvents), entrance.Close())
	b.check(s, f.Seen())
	return err
}
