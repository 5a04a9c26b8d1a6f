package hostile

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/attack"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

const (
	lookInterval = 250 * time.Millisecond
	// aftermath is how long the edge has before its memory is read: what was
	// being closed is cut off by then.
	aftermath = 6 * time.Second
)

// measurement is one attack.
type measurement struct {
	calm, attacked      []time.Duration // latencies of the others
	calmCores, cores    float64         // CPU that the edge used
	before, peak, after cluster.Memory  // before and after it, in use is read after a garbage collection
	tally               attack.Tally
}

// measure is a calm, an attack, and what is left after it.
func (h *hostile) measure(ctx context.Context, a attack.Attack) (m measurement, err error) {
	if m.before, err = h.collected(ctx); err != nil {
		return m, err
	}
	m.calm, m.calmCores, err = h.during(ctx, func() error {
		traffic.Wait(ctx, h.options.calm)
		return ctx.Err()
	})
	if err != nil {
		return m, err
	}
	m.attacked, m.cores, err = h.during(ctx, func() (err error) {
		m.peak, m.tally, err = h.attack(ctx, a)
		return err
	})
	if err != nil {
		return m, err
	}
	traffic.Wait(ctx, aftermath)
	m.after, err = h.collected(ctx)
	return m, err
}

// during returns the latencies of what came to the others while f ran, and how
// many cores the edge used on average.
func (h *hostile) during(ctx context.Context, f func() error) (latencies []time.Duration, cores float64, err error) {
	began := time.Now()
	before, err := cluster.CPU(ctx, h.Edges...)
	if err != nil {
		return nil, 0, err
	}
	if err := f(); err != nil {
		return nil, 0, err
	}
	after, err := cluster.CPU(ctx, h.Edges...)
	cores = (after - before) / time.Since(began).Seconds()
	for _, d := range h.Ledger.Deliveries() {
		if d.Received.After(began) {
			latencies = append(latencies, d.Received.Sub(d.Published))
		}
	}
	return latencies, cores, err
}

// attack makes an attack, and returns the most memory that was seen meanwhile.
func (h *hostile) attack(ctx context.Context, a attack.Attack) (peak cluster.Memory, tally attack.Tally, err error) {
	bounded, cancel := context.WithTimeout(ctx, h.options.attack)
	defer cancel()
	edge := h.Edges[0]
	var attacking sync.WaitGroup
	var unfed error
	attacking.Go(func() {
		tally = a.Run(bounded, attack.Target{URL: edge.URL, Secret: cluster.Secret, From: attackersAddress()})
	})
	attacking.Go(func() { unfed = h.feed(bounded, a) })
	for bounded.Err() == nil && err == nil {
		var now cluster.Memory
		now, err = edge.Memory(ctx)
		peak.Resident, peak.InUse = max(peak.Resident, now.Resident), max(peak.InUse, now.InUse)
		traffic.Wait(bounded, lookInterval)
	}
	cancel()
	attacking.Wait()
	return peak, tally, errors.Join(err, unfed)
}

// feed publishes large events for the attackers: more than a window at once,
// and then one a second.
func (h *hostile) feed(ctx context.Context, a attack.Attack) error {
	const atOnce = 15
	for n := 0; ctx.Err() == nil; n++ {
		meal, err := a.Meal(n)
		if err != nil || len(meal) == 0 {
			return err
		}
		if err := h.Feed.PublishRaw(context.WithoutCancel(ctx), meal...); err != nil {
			return err
		}
		if n >= atOnce {
			traffic.Wait(ctx, time.Second)
		}
	}
	return nil
}

// collected is the edge's memory after a garbage collection.
func (h *hostile) collected(ctx context.Context) (cluster.Memory, error) {
	resp, err := process.Get(ctx, "http://"+h.Edges[0].AdminAddr+"/debug/pprof/heap?gc=1")
	if err != nil {
		return cluster.Memory{}, err
	}
	_ = resp.Body.Close()
	return h.Edges[0].Memory(ctx)
}

// attackersAddress is one that the limits of connects by address tell from that
// of the others. Only Linux has all of 127.0.0.0/8 on loopback.
func attackersAddress() net.IP {
	if runtime.GOOS == "linux" {
		return net.IPv4(127, 0, 0, 2)
	}
	return nil
}
