package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/load"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// way is how events get in.
type way struct {
	name string
	open func(s *system) (load.Entrance, error)
}

var (
	fromLog   = way{"from JetStream", (*system).openLog}
	fromRedis = way{"from Redis", (*system).openRedis}
)

// throughput publishes as fast as events come, for a time.
func throughput(in way) func(*bench, context.Context, *system) error {
	return func(b *bench, ctx context.Context, s *system) error {
		f, err := b.fleet(ctx, s, b.options.daemons)
		if err != nil {
			return err
		}
		defer f.Close()
		entrance, err := in.open(s)
		if err != nil {
			return err
		}
		p := load.NewPublisher(f, entrance)
		stop, ended := make(chan struct{}), make(chan error, 1)
		go func() { ended <- p.FlatOut(ctx, b.options.underWay, stop) }()
		err = b.rate(ctx, s, f, in.name)
		close(stop)
		err = errors.Join(err, <-ended)
		if err == nil {
			err = f.Await(ctx, p.Sent())
		}
		err = errors.Join(err, entrance.Close())
		b.check(s, f.Seen())
		return err
	}
}

// rate measures how many events come, and what each costs.
func (b *bench) rate(ctx context.Context, s *system, f *load.Fleet, name string) error {
	traffic.Wait(ctx, b.options.warmUp)
	began, came := time.Now(), f.Came()
	costs, err := s.meter(ctx)
	if err != nil {
		return err
	}
	traffic.Wait(ctx, b.options.duration)
	n := float64(f.Came() - came)
	if n == 0 {
		return errors.Join(ctx.Err(), f.Err(), errors.New("nothing has come"))
	}
	b.results.add(name+", events/s", s.name, n/time.Since(began).Seconds())
	return costs.add(ctx, b.results, name, n)
}

// rates are those at which latency is measured, in events a second.
var rates = []int{1000, 5000}

// latency publishes at fixed rates, one after the other.
func (b *bench) latency(ctx context.Context, s *system) error {
	f, err := b.fleet(ctx, s, b.options.daemons)
	if err != nil {
		return err
	}
	defer f.Close()
	entrance, err := s.openLog()
	if err != nil {
		return err
	}
	p := load.NewPublisher(f, entrance)
	var began []time.Time
	for _, rate := range rates {
		began = append(began, time.Now())
		if err = p.Paced(ctx, rate, b.options.warmUp+b.options.duration); err == nil {
			err = f.Await(ctx, p.Sent())
		}
		if err != nil {
			return errors.Join(err, entrance.Close())
		}
	}
	if err := entrance.Close(); err != nil {
		return err
	}
	seen := f.Seen()
	b.check(s, seen)
	for i, rate := range rates {
		measured := began[i].Add(b.options.warmUp)
		b.percentiles(s.name, latencyAt(rate), seen.Latencies(measured, measured.Add(b.options.duration)))
	}
	return nil
}

func latencyAt(rate int) string { return fmt.Sprintf("latency at %d/s", rate) }

// percentiles notes latencies.
func (b *bench) percentiles(who, name string, all []time.Duration) {
	if len(all) == 0 {
		return // a publisher that stood still
	}
	for _, q := range []float64{.5, .99, .999} {
		b.results.add(fmt.Sprintf("%s, p%g, ms", name, 100*q), who, lab.Percentile(all, q).Seconds()*1000)
	}
}

// connections opens many on one edge at once, and leaves them idle.
func (b *bench) connections(ctx context.Context, s *system) error {
	costs, err := s.meter(ctx)
	if err != nil {
		return err
	}
	profiled := b.profile(ctx, s, "storm.cpu", "profile?seconds=8")
	f, err := b.fleet(ctx, s, b.options.storm)
	if err != nil {
		return err
	}
	defer f.Close()
	n := float64(b.options.storm)
	b.results.add("storm, connects/s", s.name, n/f.Opened().Seconds())
	if err := costs.add(ctx, b.results, "storm", n); err != nil {
		return err
	}
	traffic.Wait(ctx, b.options.settle)
	err = errors.Join(ctx.Err(), f.Err(), costs.addMemory(b.results, "an idle connection", n))
	return errors.Join(err, profiled(), b.profile(ctx, s, "idle.heap", "heap?gc=1")())
}

// heartbeats has daemons do nothing but send one a second.
func (b *bench) heartbeats(ctx context.Context, s *system) error {
	f, err := b.fleet(ctx, s, b.options.beating)
	if err != nil {
		return err
	}
	defer f.Close()
	written := func() (float64, error) {
		return cluster.Sum(ctx, s.bridges, "gateway_bridge_heartbeats_total", `outcome="written"`)
	}
	traffic.Wait(ctx, b.options.warmUp)
	before, err := written()
	if err != nil {
		return err
	}
	costs, err := s.meter(ctx)
	if err != nil {
		return err
	}
	traffic.Wait(ctx, b.options.duration)
	after, err := written()
	if n := after - before; err != nil || n == 0 {
		return errors.Join(ctx.Err(), f.Err(), err, errors.New("no heartbeat has come to Redis"))
	}
	b.results.add("heartbeats, written to Redis/s", s.name, (after-before)/b.options.duration.Seconds())
	return costs.add(ctx, b.results, "heartbeats", after-before)
}
