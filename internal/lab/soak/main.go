// Command soak runs a cluster of processes for long at a moderate rate, with
// daemons that come and go, and reports whether anything grows that should not:
// goroutines, memory and file descriptors of every process, and what NATS holds.
// It also judges, as the chaos runs do, that nothing was lost. It prints a table
// and a verdict; growth or a broken promise makes the exit code 1.
//
// What happens is recorded and judged a shift at a time, so that a run may be as
// long as one likes: between two shifts everything is delivered and everybody
// leaves, and what is known is forgotten.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

type options struct {
	duration, warmUp, shift, look time.Duration
	daemons, rate                 int
	nats                          int
	dir                           string
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "duration", time.Hour, "how long the run takes, with the warm-up")
	flag.DurationVar(&o.warmUp, "warm-up", 0, "how long nothing is compared yet; 0: a quarter of the duration, at least 2m30s")
	flag.DurationVar(&o.shift, "shift", 5*time.Minute, "after how long all is judged and forgotten")
	flag.DurationVar(&o.look, "look", 0, "time between two measurements; 0: a 240th of the duration, between 2s and 15s")
	flag.IntVar(&o.daemons, "daemons", 100, "daemons; a third of them stay, the others come and go")
	flag.IntVar(&o.rate, "rate", 40, "events published a second, half on Redis and half on JetStream")
	flag.IntVar(&o.nats, "nats", 1, "NATS servers: 1, or 3 with three replicas of everything")
	flag.StringVar(&o.dir, "dir", "", "where the processes' logs and data go and stay; default: a directory that is removed after a good run")
	flag.Parse()
	o.complete()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
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

func run(ctx context.Context, o options) (err error) {
	keep := o.dir != ""
	if !keep {
		if o.dir, err = os.MkdirTemp("", "gateway-soak"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				_ = os.RemoveAll(o.dir)
			}
		}()
	}
	fmt.Println("building…")
	binaries, err := cluster.Build(ctx, filepath.Join(o.dir, "bin"))
	if err != nil {
		return err
	}
	fmt.Printf("%s, %s of them to warm up, logs in %s\n", o.duration, o.warmUp, o.dir)
	w, err := newWorld(ctx, o, binaries)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.run(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, w.Report(15))
	}
	return errors.Join(w.promises(), w.growth(os.Stdout))
}
