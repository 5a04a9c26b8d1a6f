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
	// aftermath is how long the node has before its memory is read: what was
	// being closed is cut off by then.
	aftermath = 6 * time.Second
)

// measurement is one attack.
type measurement struct {
	calm, attacked      []time.Duration // latencies of the others
	calmCores, cores    float64         // CPU that the attacked node used
	before, peak, after cluster.Memory  // before and after it, in use is read after a garbage collection
	tally               attack.Tally
}

// measure is a calm, an attack, and what is left after it.
func (h *hostile) measure(ctx context.Context, a attack.Attack) (m measurement, err error) {
	node := h.attacked(a)
	if m.before, err = collected(ctx, node); err != nil {
		return m, err
	}
	m.calm, m.calmCores, err = h.during(ctx, node, func() error {
		traffic.Wait(ctx, h.options.calm)
		return ctx.Err()
	})
	if err != nil {
		return m, err
	}
	m.attacked, m.cores, err = h.during(ctx, node, func() (err error) {
		m.peak, m.tally, err = h.attack(ctx, node, a)
		return err
	})
	if err != nil {
		return m, err
	}
	traffic.Wait(ctx, aftermath)
	m.after, err = collected(ctx, node)
	return m, err
}

// attacked is the node that an attack is made on.
func (h *hostile) attacked(a attack.Attack) *cluster.Node {
	if a.OnIntake {
		return h.Bridges[0]
	}
	return h.Edges[0]
}

// during returns the latencies of what came to the others while f ran, and how
// many cores a node used on average.
func (h *hostile) during(ctx context.Context, node *cluster.Node, f func() error) (latencies []time.Duration, cores float64, err error) {
	began := time.Now()
	before, err := cluster.CPU(ctx, node)
	if err != nil {
		return nil, 0, err
	}
	if err := f(); err != nil {
		return nil, 0, err
	}
	after, err := cluster.CPU(ctx, node)
	cores = (after - before) / time.Since(began).Seconds()
	for _, d := range h.Ledger.Deliveries() {
		if d.Received.After(began) {
			latencies = append(latencies, d.Received.Sub(d.Published))
		}
	}
	return latencies, cores, err
}

// attack makes an attack, and returns the most memory that was seen meanwhile.
func (h *hostile) attack(ctx context.Context, node *cluster.Node, a attack.Attack) (peak cluster.Memory, tally attack.Tally, err error) {
	bounded, cancel := context.WithTimeout(ctx, h.options.attack)
	defer cancel()
	target := attack.Target{
		URL: h.Edges[0].URL, Secret: cluster.Secret, From: attackersAddress(),
		Gossip: h.Edges[0].GossipAddr, Cluster: cluster.Name, GossipKey: cluster.GossipKey, Intake: h.intake, APIKey: apiKey,
	}
	var attacking sync.WaitGroup
	var unfed error
	attacking.Go(func() { tally = a.Run(bounded, target) })
	attacking.Go(func() { unfed = h.feed(bounded, a) })
	for bounded.Err() == nil && err == nil {
		var now cluster.Memory
		now, err = node.Memory(ctx)
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

// collected is a node's memory after a garbage collection.
func collected(ctx context.Context, node *cluster.Node) (cluster.Memory, error) {
	resp, err := process.Get(ctx, "http://"+node.AdminAddr+"/debug/pprof/heap?gc=1")
	if err != nil {
		return cluster.Memory{}, err
	}
	_ = resp.Body.Close()
	return node.Memory(ctx)
}

// attackersAddress is one that the limits of connects by address tell from that
// of the others. Only Linux has all of 127.0.0.0/8 on loopback.
func attackersAddress() net.IP {
	if runtime.GOOS == "linux" {
		return net.IPv4(127, 0, 0, 2)
	}
	return nil
}
