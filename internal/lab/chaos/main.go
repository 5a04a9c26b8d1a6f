// Command chaos runs a cluster of processes under traffic, breaks it at random
// from a seed, and judges what publishers and daemons saw of it: nothing
// acknowledged may be lost, order must hold, and every repeat must have its
// reason. It prints the faults and how fast the service was back; a violation
// is told with the whole story of its event, and makes the exit code 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/redis/go-redis/v9/logging"
)

type options struct {
	seed     uint64
	duration time.Duration
	settle   time.Duration
	calm     time.Duration
	faults   string
	daemons  int
	rate     int
	routers  int
	dir      string
	level    string
	network  demand
}

func main() {
	o := options{network: networkAuto}
	flag.Uint64Var(&o.seed, "seed", 0, "what the run is drawn from; 0: a new one, which is printed")
	flag.DurationVar(&o.duration, "duration", 3*time.Minute, "how long faults happen")
	flag.DurationVar(&o.settle, "settle", 90*time.Second, "how long after the last fault the rest may take to be delivered")
	flag.DurationVar(&o.calm, "calm", 25*time.Second, "how long nothing happens after every sixth fault or so")
	flag.StringVar(&o.faults, "faults", "*", "which faults, as a comma-separated list of names or patterns such as kill-*; \"list\" lists them")
	flag.IntVar(&o.daemons, "daemons", 200, "daemons, two for each orchestrator")
	flag.IntVar(&o.rate, "rate", 150, "events published a second, half on Redis and half on JetStream")
	flag.IntVar(&o.routers, "routers", 2, "routers")
	flag.StringVar(&o.dir, "dir", "", "where the processes' logs and data go and stay; default: a directory that is removed after a run without violations")
	flag.StringVar(&o.level, "log-level", "info", "LOG_LEVEL of the nodes")
	flag.Var(&o.network, "network", "whether each process gets a network namespace, so that links can be cut: \"auto\" (where this machine allows it), \"required\" or \"none\"")
	flag.Parse()
	if o.faults == "list" {
		fmt.Println(strings.Join(names(allFaults()), "\n"))
		return
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000) + 1
	}
	logging.Disable() // it tells of every attempt to reach a Redis that was killed
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	good, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	if !good {
		os.Exit(1)
	}
}

// run is one run from the building of the programs to the verdict.
func run(ctx context.Context, o options) (good bool, err error) {
	g, err := prepare(ctx, o)
	if err != nil {
		return false, err
	}
	if o.dir == "" {
		defer func() {
			if good {
				_ = os.RemoveAll(g.dir)
			}
		}()
	}
	faults, err := choose(o.faults, g.network != nil)
	if err != nil {
		return false, err
	}
	fmt.Printf("seed %d, %s of faults, logs in %s\n", o.seed, o.duration, g.dir)
	w, err := newWorld(ctx, o, g)
	if err != nil {
		return false, err
	}
	defer w.close()
	if err := w.breakIt(ctx, faults); err != nil {
		return false, fmt.Errorf("%w\n%s", err, w.Report(20))
	}
	verdict, err := w.judge(ctx)
	if err != nil {
		return false, err
	}
	return verdict.print(os.Stdout), nil
}
