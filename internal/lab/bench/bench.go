// Package bench measures the gateway end to end: throughput at saturation,
// latency at a fixed rate, what an idle connection costs, and a heartbeat. Load
// generator, NATS and Redis share the machine with what is measured, so compare
// ratios within one run, not absolute numbers between machines.
package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Scenario is what this package does.
func Scenario() lab.Scenario {
	return lab.Scenario{Name: "bench", What: "throughput, latency and memory", Takes: "8 min", Page: "docs/scaling.md", New: scenario}
}

type options struct {
	daemons, events, idle int
	rate, beating         int
	duration              time.Duration
}

// measurement is done on a cluster of its own, so that none warms another.
type measurement struct {
	name, what string
	measure    func(b *bench, ctx context.Context) error
	heartbeats time.Duration // between two of a daemon
}

func measurements() []measurement {
	const usual = 30 * time.Second // the default: they cost next to nothing
	return []measurement{
		{"log", "throughput of what is published to the log", throughput("published to the log", (*bench).toLog), usual},
		{"redis", "throughput of what is published on Redis", throughput("published on Redis", (*bench).toRedis), usual},
		{"latency", "from PUBLISH to the daemon's handler, at a fixed rate", (*bench).latency, usual},
		{"idle", "memory of connections that do nothing", (*bench).idle, usual},
		{"heartbeats", "of many daemons, on their way to Redis", (*bench).heartbeats, time.Second},
	}
}

// bench is a run.
type bench struct {
	*lab.World
	options options
	table   *lab.Table
	count   int // of events
}

func scenario(flags *flag.FlagSet) lab.Run {
	var o options
	flags.IntVar(&o.daemons, "daemons", 500, "daemons that receive, each of its own orchestrator")
	flags.IntVar(&o.events, "events", 100_000, "events of a throughput run; at most 1,000 for each daemon are kept")
	flags.IntVar(&o.rate, "rate", 500, "events a second of the latency run; a second one has four times as many")
	flags.DurationVar(&o.duration, "duration", 10*time.Second, "length of a latency run")
	flags.IntVar(&o.idle, "idle", 5000, "idle connections of the memory run, all on one edge")
	flags.IntVar(&o.beating, "beating", 1000, "daemons with a heartbeat each second")
	only := lab.Select(flags, "only", "measurements", measurements(), func(m measurement) (name, what string) { return m.name, m.what })
	return func(ctx context.Context, w *lab.World) error {
		b := &bench{World: w, options: o, table: lab.NewTable("what", "result")}
		for _, m := range only.Chosen() {
			b.Say("measuring: %s…", m.name)
			if err := b.run(ctx, m); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
		fmt.Printf("\n%s\n", lab.Machine())
		return b.table.Print(os.Stdout)
	}
}

func (b *bench) run(ctx context.Context, m measurement) error {
	dir := b.Dir
	defer func() { b.Dir = dir }()
	b.Dir = filepath.Join(dir, m.name)
	if err := os.MkdirAll(b.Dir, 0o755); err != nil {
		return err
	}
	if err := b.Open(ctx, cluster.Config{Edges: 2, Settings: map[string]string{
		"LOG_LEVEL": "warn", "RATE_MESSAGES_PER_MINUTE": "100000", "WS_HEARTBEAT_INTERVAL": m.heartbeats.String(),
	}}); err != nil {
		return err
	}
	defer b.Close()
	err := m.measure(b, ctx)
	for _, crash := range b.Crashes() {
		b.Find("%s", crash)
	}
	return err
}

func (b *bench) row(what, format string, args ...any) {
	b.table.Row(what, fmt.Sprintf(format, args...))
}

// cost returns the CPU that the tiers spend on each of what f does; f returns how
// many these were.
func (b *bench) cost(ctx context.Context, f func() (n float64, err error)) (string, error) {
	spent := func() (seconds [3]float64, err error) {
		for i, nodes := range [][]*cluster.Node{b.Bridges, b.Routers, b.Edges} {
			if seconds[i], err = cluster.CPU(ctx, nodes...); err != nil {
				return seconds, err
			}
		}
		return seconds, nil
	}
	before, err := spent()
	if err != nil {
		return "", err
	}
	n, err := f()
	if err != nil {
		return "", err
	}
	after, err := spent()
	each := func(tier int) float64 { return (after[tier] - before[tier]) / n * 1e6 }
	return fmt.Sprintf("bridges %.0f µs, routers %.0f µs, edges %.0f µs", each(0), each(1), each(2)), err
}

// idle connects many daemons to one edge and measures its memory.
func (b *bench) idle(ctx context.Context) error {
	edge := b.Edges[0]
	before, err := edge.Memory(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	f, err := startFleet(ctx, b.options.idle, []*cluster.Node{edge}, func(protocol.Event) {})
	if err != nil {
		return err
	}
	defer f.stop()
	took := time.Since(start)
	after, err := edge.Memory(ctx)
	if err != nil {
		return err
	}
	n := float64(b.options.idle)
	b.row("attaching (connect, authenticate, subscribe, cursor)", "%.0f connections/s over %d connections of one edge", n/took.Seconds(), b.options.idle)
	b.row("memory of an idle connection", "%.1f KiB resident, %.1f KiB of heap and stacks in use",
		(after.Resident-before.Resident)/n/1024, (after.InUse-before.InUse)/n/1024)
	return nil
}

// heartbeats connects daemons that do nothing but send a heartbeat each second,
// and measures what one costs on its way from the edge to Redis.
func (b *bench) heartbeats(ctx context.Context) error {
	f, err := startFleet(ctx, b.options.beating, b.Edges, func(protocol.Event) {})
	if err != nil {
		return err
	}
	defer f.stop()
	written := func() (float64, error) {
		return cluster.Sum(ctx, b.Bridges, "gateway_bridge_heartbeats_total", `outcome="written"`)
	}
	var count float64
	cost, err := b.cost(ctx, func() (float64, error) {
		before, err := written()
		if err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(b.options.duration):
		}
		after, err := written()
		if count = after - before; err == nil && count == 0 {
			err = fmt.Errorf("no heartbeat has come to Redis")
		}
		return count, err
	})
	if err != nil {
		return err
	}
	b.row(fmt.Sprintf("heartbeats of %d daemons, one a second each", b.options.beating), "%.0f a second written to Redis", count/b.options.duration.Seconds())
	b.row("CPU a heartbeat in that run", "%s", cost)
	return nil
}
