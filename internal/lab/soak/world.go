package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

const (
	partitions = 16
	// kept is how many events of an orchestrator the log keeps: few, so that its
	// size is the same all the time but for the first minutes.
	kept = 100
	// patience bounds what must not take long: starting, and the end of a shift.
	patience = 90 * time.Second
)

// world is a cluster under traffic, and what was seen of it.
type world struct {
	*cluster.Cluster
	options options
	log     *traffic.Log
	random  *rand.Rand
	began   time.Time

	samples *samples
	events  int // published so far, over all shifts
	shifts  int
	counts  counts

	mu     sync.Mutex
	broken []string // promises
}

func newWorld(ctx context.Context, o options, binaries cluster.Binaries) (*world, error) {
	replicas := 1
	if o.nats >= 3 {
		replicas = 3
	}
	c, err := cluster.New(cluster.Config{
		Binaries: binaries, Dir: o.dir, NATS: o.nats, Bridges: 2, Routers: 2, Edges: 3,
		Settings: map[string]string{
			"LOG_LEVEL": "warn", "STREAM_REPLICAS": strconv.Itoa(replicas), "EVENTS_PER_ORCHESTRATOR": strconv.Itoa(kept),
		},
	})
	if err != nil {
		return nil, err
	}
	w := &world{Cluster: c, options: o, random: rand.New(rand.NewPCG(1, 2)), began: time.Now(), samples: newSamples()}
	if err := w.start(ctx); err != nil {
		report := c.Report(20)
		w.close()
		return nil, fmt.Errorf("%w\n%s", err, report)
	}
	return w, nil
}

func (w *world) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.Start(ctx); err != nil {
		return err
	}
	var err error
	w.log, err = traffic.OpenLog(w.NATSURL())
	return err
}

func (w *world) close() {
	if w.log != nil {
		w.log.Close()
	}
	w.Close()
}

// run works one shift after the other, and measures beside, until the duration
// is over.
func (w *world) run(ctx context.Context) error {
	measuring, stop := context.WithCancel(ctx)
	var measured sync.WaitGroup
	var blind error
	measured.Go(func() { blind = w.measure(measuring) })
	end := w.began.Add(w.options.duration)
	var err error
	for err == nil && time.Until(end) > 0 {
		err = w.work(ctx, min(w.options.shift, time.Until(end)))
	}
	stop()
	measured.Wait()
	return errors.Join(err, blind)
}

// measure takes samples once the warm-up is over, and says now and then how it goes.
func (w *world) measure(ctx context.Context) error {
	wait(ctx, time.Until(w.began.Add(w.options.warmUp)))
	news := w.options.duration / 10
	told := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		if err := w.samples.take(ctx, w.Cluster); err != nil && ctx.Err() == nil {
			return err
		}
		if n == 0 || time.Since(told) >= news {
			told = time.Now()
			w.say("%s", w.samples.line())
		}
		wait(ctx, w.options.look)
	}
	return nil
}

// breach writes down a broken promise.
func (w *world) breach(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = append(w.broken, what)
}

// promises returns which were broken.
func (w *world) promises() error {
	fmt.Printf("\n%d shifts: %s\n", w.shifts, w.counts)
	broken := append(w.broken, w.Crashes()...)
	if len(broken) == 0 {
		fmt.Println("nothing was lost, and no promise broken")
		return nil
	}
	return fmt.Errorf("%d promises were broken:\n%s", len(broken), strings.Join(broken[:min(20, len(broken))], "\n"))
}

// growth prints the table and returns what grew.
func (w *world) growth(out io.Writer) error {
	grew, err := w.samples.print(out, w.options)
	switch {
	case err != nil:
		return err
	case len(grew) > 0:
		return fmt.Errorf("growth: %s", strings.Join(grew, "; "))
	}
	fmt.Fprintln(out, "\nno growth")
	return nil
}

func (w *world) say(format string, args ...any) {
	fmt.Printf("%8s  %s\n", time.Since(w.began).Round(time.Second), fmt.Sprintf(format, args...))
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
