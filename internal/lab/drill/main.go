// Command drill practises the recovery from disasters: it runs a cluster of
// processes with daemons and publishers, takes backups with the commands that an
// operator uses, destroys what holds data, restores it, and judges what came of
// each event. It prints a table of what was done, how long it took and what was
// lost; a broken promise makes the exit code 1.
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

	"github.com/redis/go-redis/v9/logging"
)

type options struct {
	publish time.Duration
	level   string
	dir     string
	only    string
}

// exercise is a disaster and the recovery from it.
type exercise struct {
	name, title string
	do          func(ctx context.Context, w *world) error
}

// exercises come in an order in which each leaves a cluster to the next.
func exercises() []exercise {
	return []exercise{
		{"everything", "all of JetStream and PostgreSQL lost, restored from the backup", everything},
		{"disk", "the disk of one of three NATS servers lost", oneDisk},
		{"database", "PostgreSQL lost, restored from the backup", databaseRestored},
		{"schema", "PostgreSQL lost, restored without the gateway's schema", databaseWithoutSchema},
		{"nothing", "all of JetStream lost, and no backup", nothingLeft},
	}
}

func main() {
	var o options
	flag.DurationVar(&o.publish, "publish", 6*time.Second, "how long events are published before and after each backup")
	flag.StringVar(&o.level, "log-level", "info", "LOG_LEVEL of the nodes")
	flag.StringVar(&o.only, "only", "", "the one exercise to do: everything, disk, database, schema or nothing; default: all, one after the other")
	flag.StringVar(&o.dir, "dir", "", "where logs, data and backups go and stay; default: a directory that is removed after a good run")
	flag.Parse()
	logging.Disable() // it tells of every attempt to reach a Redis that was killed
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "drill:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	keep := o.dir != ""
	if !keep {
		if o.dir, err = os.MkdirTemp("", "gateway-drill"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				_ = os.RemoveAll(o.dir)
			}
		}()
	}
	fmt.Println("building…")
	p, err := build(ctx, filepath.Join(o.dir, "bin"))
	if err != nil {
		return err
	}
	fmt.Println("logs in", o.dir)
	w, err := newWorld(ctx, o, p)
	if err != nil {
		return err
	}
	defer w.close()
	for _, x := range exercises() {
		if o.only != "" && o.only != x.name {
			continue
		}
		w.report.begin(x.title)
		if err := x.do(ctx, w); err != nil {
			_ = w.report.print(os.Stdout)
			return fmt.Errorf("%s: %w\n%s", x.title, err, w.Report(4))
		}
	}
	w.report.broken = append(w.report.broken, w.Crashes()...)
	return errors.Join(w.report.print(os.Stdout), w.report.verdict(os.Stdout))
}
