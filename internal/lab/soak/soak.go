// Package soak runs a cluster for an hour at a moderate rate, with daemons that come
// and go, and reports whether anything grows that should not: goroutines, memory
// and file descriptors of every process, and what NATS holds. It also judges that
// nothing was lost.
//
// What happens is recorded and judged a shift at a time, so that a run may be as
// long as one likes: between two shifts everything is delivered and everybody
// leaves, and what is known is forgotten.
package soak

import (
	"context"
	"errors"
	"flag"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// Scenario is what this package does.
func Scenario() lab.Scenario {
	return lab.Scenario{
		Name: "soak", What: "nothing grows, and nothing is lost, while daemons come and go",
		Takes: "1 h", Page: "docs/scaling.md", New: scenario,
	}
}

type options struct {
	duration, warmUp, shift, look time.Duration
	daemons, rate                 int
	nats                          int
}

func scenario(flags *flag.FlagSet) lab.Run {
	var o options
	flags.DurationVar(&o.duration, "duration", time.Hour, "how long the run takes, with the warm-up")
	flags.DurationVar(&o.warmUp, "warm-up", 0, "how long nothing is compared yet; 0: a quarter of the duration, at least 2m30s")
	flags.DurationVar(&o.shift, "shift", 5*time.Minute, "after how long all is judged and forgotten")
	flags.DurationVar(&o.look, "look", 0, "time between two measurements; 0: a 240th of the duration, between 2s and 15s")
	flags.IntVar(&o.daemons, "daemons", 100, "daemons; a third of them stay, the others come and go")
	flags.IntVar(&o.rate, "rate", 40, "events published a second, half on Redis and half on JetStream")
	flags.IntVar(&o.nats, "nats", 1, "NATS servers: 1, or 3 with three replicas of everything")
	return func(ctx context.Context, w *lab.World) error {
		o.complete()
		return (&soak{World: w, options: o, samples: newSamples()}).run(ctx)
	}
}

// complete fills in what depends on the duration. For almost three minutes the log
// fills up.
func (o *options) complete() {
	if o.warmUp == 0 {
		o.warmUp = max(o.duration/4, 150*time.Second)
	}
	if o.look == 0 {
		o.look = min(max(o.duration/240, 2*time.Second), 15*time.Second)
	}
}

// kept is how many events of an orchestrator the log keeps: few, so that its
// size is the same all the time but for the first minutes.
const kept = 100

// soak is a run.
type soak struct {
	*lab.World
	options options
	samples *samples
	shifts  int
	counts  counts
}

// run works one shift after the other, and measures beside, until the duration
// is over.
func (s *soak) run(ctx context.Context) error {
	if err := s.Open(ctx, cluster.Config{
		NATS: s.options.nats, Bridges: 2, Routers: 2, Edges: 3,
		Settings: map[string]string{"LOG_LEVEL": "warn", "EVENTS_PER_ORCHESTRATOR": strconv.Itoa(kept)},
	}); err != nil {
		return err
	}
	measuring, stop := context.WithCancel(ctx)
	var measured sync.WaitGroup
	var blind, err error
	measured.Go(func() { blind = s.measure(measuring) })
	end := s.Began().Add(s.options.duration)
	for err == nil && time.Until(end) > 0 {
		err = s.work(ctx, min(s.options.shift, time.Until(end)))
	}
	stop()
	measured.Wait()
	if err := errors.Join(err, blind); err != nil {
		return err
	}
	s.Say("%d shifts: %s", s.shifts, s.counts)
	grew, err := s.samples.print(os.Stdout, s.options)
	for _, what := range grew {
		s.Find("growth: %s", what)
	}
	return err
}

// measure takes samples once the warm-up is over, and says now and then how it goes.
func (s *soak) measure(ctx context.Context) error {
	traffic.Wait(ctx, time.Until(s.Began().Add(s.options.warmUp)))
	news := s.options.duration / 10
	told := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		if err := s.samples.take(ctx, s.Cluster); err != nil && ctx.Err() == nil {
			return err
		}
		if n == 0 || time.Since(told) >= news {
			told = time.Now()
			s.Say("%s", s.samples.line())
		}
		traffic.Wait(ctx, s.options.look)
	}
	return nil
}
