package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/attack"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

// measurement is one attack.
type measurement struct {
	calm, attacked      []time.Duration // latencies of the others, sorted
	before, peak, after memory
	cores               float64 // CPU that the edge used during the attack
	calmCores           float64
	tally               attack.Tally
}

// memory is an edge's, in bytes. Before and after an attack, inUse is read
// right after a garbage collection.
type memory struct{ resident, inUse float64 }

func (m measurement) String() string {
	return fmt.Sprintf("others %s, with the attack %s; in use %s, at most %s, then %s; %s",
		percentiles(m.calm), percentiles(m.attacked), mebibytes(m.before.inUse), mebibytes(m.peak.inUse), mebibytes(m.after.inUse), outcome(m.tally))
}

const (
	lookInterval = 250 * time.Millisecond
	// aftermath is how long the edge has before its memory is read: what was
	// being closed is cut off by then.
	aftermath = 6 * time.Second
)

// measure is a calm, an attack, and what is left after it.
func (w *world) measure(ctx context.Context, a attack.Attack) (m measurement, err error) {
	edge := w.Edges[0]
	if m.before, err = settled(ctx, edge); err != nil {
		return m, err
	}
	w.take()
	if m.calmCores, err = cores(ctx, edge, func() error { return wait(ctx, w.options.calm) }); err != nil {
		return m, err
	}
	m.calm = sorted(w.take())
	m.cores, err = cores(ctx, edge, func() error {
		m.peak, m.tally, err = w.suffer(ctx, a)
		return err
	})
	if err != nil {
		return m, err
	}
	m.attacked = sorted(w.take())
	if err := wait(ctx, aftermath); err != nil {
		return m, err
	}
	m.after, err = settled(ctx, edge)
	return m, err
}

// suffer attacks, and returns the most memory that was seen meanwhile.
func (w *world) suffer(ctx context.Context, a attack.Attack) (peak memory, tally attack.Tally, err error) {
	bounded, cancel := context.WithTimeout(ctx, w.options.attack)
	defer cancel()
	var attacking, feeding sync.WaitGroup
	attacking.Go(func() {
		tally = a.Run(bounded, attack.Target{URL: w.Edges[0].URL, Secret: cluster.Secret, From: attackersAddress()})
	})
	var hungry error
	feeding.Go(func() { hungry = w.feed(bounded, a) })
	for bounded.Err() == nil {
		now, err := look(ctx, w.Edges[0])
		if err != nil {
			cancel()
			attacking.Wait()
			feeding.Wait()
			return peak, tally, err
		}
		peak.resident, peak.inUse = max(peak.resident, now.resident), max(peak.inUse, now.inUse)
		_ = wait(bounded, lookInterval)
	}
	attacking.Wait()
	feeding.Wait()
	return peak, tally, hungry
}

// feed publishes large events for the attackers: more than a window at once,
// and then one a second.
func (w *world) feed(ctx context.Context, a attack.Attack) error {
	const atOnce = 15
	for n := 0; ctx.Err() == nil; n++ {
		meal, err := a.Meal(n)
		if err != nil {
			return err
		}
		if len(meal) == 0 {
			return nil
		}
		if err := w.publisher.PublishRaw(context.WithoutCancel(ctx), meal...); err != nil {
			return err
		}
		if n >= atOnce {
			_ = wait(ctx, time.Second)
		}
	}
	return nil
}

// settled collects an edge's garbage and reads its memory.
func settled(ctx context.Context, n *cluster.Node) (memory, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.AdminAddr+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return memory{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return memory{}, err
	}
	_ = resp.Body.Close()
	return look(ctx, n)
}

func look(ctx context.Context, n *cluster.Node) (m memory, err error) {
	if m.resident, err = n.Metric(ctx, "process_resident_memory_bytes"); err != nil {
		return m, err
	}
	for _, name := range []string{"go_memstats_heap_inuse_bytes", "go_memstats_stack_inuse_bytes"} {
		v, err := n.Metric(ctx, name)
		if err != nil {
			return m, err
		}
		m.inUse += v
	}
	return m, nil
}

// cores returns how many cores a node used on average while f ran.
func cores(ctx context.Context, n *cluster.Node, f func() error) (float64, error) {
	before, err := n.Metric(ctx, "process_cpu_seconds_total")
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := f(); err != nil {
		return 0, err
	}
	took := time.Since(start)
	after, err := n.Metric(ctx, "process_cpu_seconds_total")
	return (after - before) / took.Seconds(), err
}

func sorted(all []time.Duration) []time.Duration {
	slices.Sort(all)
	return all
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
