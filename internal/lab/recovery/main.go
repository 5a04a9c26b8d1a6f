// Command recovery measures how fast the service is back: it runs a cluster of
// processes with daemons and a steady stream of events, breaks one thing at a
// time, waits until every daemon gets its events at once again, repairs it, and
// does so several times for each fault. It prints a table in Markdown. In the
// end every event must have reached every daemon of its orchestrator, or the
// exit code is 1.
//
// Publishers, daemons, NATS and Redis share the machine with the gateway, so
// the times hold for a busy small machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

type options struct {
	streams, quiet, partitions int
	interval                   time.Duration
	repetitions                int
	faults                     string
	dir                        string
	level                      string
}

func main() {
	var o options
	flag.IntVar(&o.streams, "streams", 40, "orchestrators with a stream of events, half of them on Redis and half on JetStream, with a daemon on each of 3 edges")
	flag.IntVar(&o.quiet, "quiet", 180, "daemons of other orchestrators, without events")
	flag.DurationVar(&o.interval, "interval", 100*time.Millisecond, "time between two events of a stream")
	flag.IntVar(&o.repetitions, "repetitions", 5, "how often each fault is measured")
	flag.IntVar(&o.partitions, "partitions", 8, "PARTITIONS of the cluster")
	flag.StringVar(&o.faults, "faults", "*", "which faults, as a comma-separated list of names or patterns such as *-killed; \"list\" lists them")
	flag.StringVar(&o.dir, "dir", "", "where the processes' logs and data go and stay; default: a directory that is removed")
	flag.StringVar(&o.level, "log-level", "info", "LOG_LEVEL of the nodes")
	flag.Parse()
	logging.Disable() // it tells of every attempt to reach a Redis that is not there yet
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "recovery:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.faults == "list" {
		for _, f := range faults() {
			fmt.Println(f.name)
		}
		return nil
	}
	chosen, err := choose(o.faults)
	if err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "gateway-recovery"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(o.dir) }()
	} else if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	fmt.Println("building…")
	binaries, err := cluster.Build(ctx, filepath.Join(o.dir, "bin"))
	if err != nil {
		return err
	}
	w, err := newWorld(ctx, o, binaries)
	if err != nil {
		return err
	}
	defer w.close()
	report := newReport(o)
	for _, f := range chosen {
		for i := range o.repetitions {
			m, err := w.measure(ctx, f)
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", f.name, err, w.Report(20))
			}
			fmt.Printf("%s %d/%d: %s\n", f.name, i+1, o.repetitions, m)
			report.add(f, m)
		}
	}
	missing := w.finish(ctx)
	if err := report.print(os.Stdout, missing); err != nil {
		return err
	}
	if missing > 0 {
		return fmt.Errorf("%d events did not arrive", missing)
	}
	return nil
}
