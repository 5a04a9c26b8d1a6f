// Command bench measures the gateway end to end, as separate processes on this
// machine: throughput at saturation, latency at a fixed rate, and what an idle
// connection costs. Load generator, NATS and Redis share the machine with what
// is measured, so compare ratios within one run, not absolute numbers between
// machines.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

type options struct {
	daemons, events, idle int
	rate, beating         int
	duration, limit       time.Duration
	only                  string
}

// usualInterval of heartbeats is the default: they cost next to nothing.
const usualInterval = 30 * time.Second

func main() {
	var o options
	flag.IntVar(&o.daemons, "daemons", 500, "daemons that receive, each of its own orchestrator")
	flag.IntVar(&o.events, "events", 100_000, "events of a throughput run; at most 1,000 for each daemon are kept")
	flag.IntVar(&o.rate, "rate", 500, "events a second of the latency run; a second one has four times as many")
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "length of a latency run")
	flag.IntVar(&o.idle, "idle", 5000, "idle connections of the memory run, all on one edge")
	flag.IntVar(&o.beating, "beating", 1000, "daemons with a heartbeat each second")
	flag.StringVar(&o.only, "only", "", "measure only one of log, redis, latency, idle, heartbeats")
	flag.DurationVar(&o.limit, "limit", 8*time.Minute, "the whole run ends after this time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run starts a fresh cluster for each measurement, so that none warms another.
func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "gateway-bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fmt.Println("building…")
	binaries, err := cluster.Build(ctx, dir)
	if err != nil {
		return err
	}
	results := newTable(os.Stdout)
	for _, m := range []struct {
		name     string
		measure  func(context.Context, *bench, options, *table) error
		interval time.Duration // of heartbeats
	}{
		{"log", throughputFromLog, usualInterval},
		{"redis", throughputFromRedis, usualInterval},
		{"latency", latency, usualInterval},
		{"idle", idle, usualInterval},
		{"heartbeats", heartbeats, time.Second},
	} {
		if o.only != "" && o.only != m.name {
			continue
		}
		fmt.Printf("measuring: %s…\n", m.name)
		change := map[string]string{"WS_HEARTBEAT_INTERVAL": m.interval.String()}
		if err := withCluster(ctx, binaries, m.name, dir, change, func(b *bench) error { return m.measure(ctx, b, o, results) }); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return results.print()
}

func withCluster(ctx context.Context, binaries cluster.Binaries, name, dir string, change map[string]string, measure func(*bench) error) error {
	dir, err := os.MkdirTemp(dir, name)
	if err != nil {
		return err
	}
	settings := map[string]string{"LOG_LEVEL": "warn", "RATE_MESSAGES_PER_MINUTE": "100000"}
	maps.Copy(settings, change)
	c, err := cluster.New(cluster.Config{Binaries: binaries, Dir: dir, Edges: 2, Settings: settings})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, c.Report(20))
	}
	b, err := newBench(c)
	if err != nil {
		return err
	}
	defer b.close()
	return measure(b)
}
