package recovery

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// fault is what is measured.
type fault struct {
	name, what string
	action     lab.Action // empty: nothing is done
	// again: what was done is undone at once, as a supervisor does, and not only
	// when the measurement is over.
	again bool
	// targets are the processes it happens to, and concerned tells whose events
	// take a way through them; both are asked just before.
	targets targets
}

type targets func(ctx context.Context, r *recovery) ([]*process.Process, concerned, error)

type concerned func(*daemon) bool

func allFaults() []fault {
	return []fault{
		{"none", "nothing, for comparison", "", false, nobody},
		{"edge-killed", "an edge is killed", lab.Kill, false, oneEdge},
		{"router-killed", "a router is killed", lab.Kill, false, oneRouter},
		{"bridge-killed", "a bridge is killed", lab.Kill, false, oneBridge},
		{"nats-killed", "the NATS server that leads most partitions is killed", lab.Kill, false, leader},
		{"nats-paused", "the NATS server that leads most partitions stands still", lab.Pause, false, leader},
		{"all-edges-killed", "all edges are killed and started again", lab.Kill, true, allOf("edge")},
		{"all-routers-killed", "all routers are killed and started again", lab.Kill, true, allOf("router")},
		{"all-nats-killed", "all NATS servers are killed and started again", lab.Kill, true, allOf("nats")},
		{"edge-restarted", "an edge is restarted gracefully", lab.Restart, true, oneEdge},
		{"router-restarted", "a router is restarted gracefully", lab.Restart, true, oneRouter},
		{"bridge-restarted", "a bridge is restarted gracefully", lab.Restart, true, oneBridge},
		{"nats-restarted", "the NATS server that leads most partitions is restarted gracefully, by lame duck mode", lab.Leave, true, leader},
		{"nats-terminated", "the NATS server that leads most partitions is ended by SIGTERM and started again", lab.Restart, true, leader},
		{"all-routers-restarted", "all routers are restarted gracefully, at once", lab.Restart, true, allOf("router")},
	}
}

func nobody(context.Context, *recovery) ([]*process.Process, concerned, error) {
	return nil, func(*daemon) bool { return false }, nil
}

func allOf(tier string) targets {
	return func(_ context.Context, r *recovery) ([]*process.Process, concerned, error) {
		return r.Tier(tier), func(*daemon) bool { return true }, nil
	}
}

func oneEdge(_ context.Context, r *recovery) ([]*process.Process, concerned, error) {
	n := r.Edges[0]
	there := map[*daemon]bool{}
	for _, d := range r.daemons {
		there[d] = d.edge() == n.URL
	}
	return []*process.Process{n.Process}, func(d *daemon) bool { return there[d] }, nil
}

func oneRouter(ctx context.Context, r *recovery) ([]*process.Process, concerned, error) {
	n := r.Routers[0]
	owned := map[event.Partition]bool{}
	for p := range event.Partition(r.Partitions) {
		value, err := n.Metric(ctx, "gateway_partition_owned", fmt.Sprintf(`partition="%d"`, p))
		if err != nil {
			return nil, nil, err
		}
		owned[p] = value == 1
	}
	return []*process.Process{n.Process}, inPartitions(owned), nil
}

func inPartitions(which map[event.Partition]bool) concerned {
	return func(d *daemon) bool { return which[d.stream.partition] }
}

func oneBridge(_ context.Context, r *recovery) ([]*process.Process, concerned, error) {
	return r.Tier("bridge")[:1], func(d *daemon) bool { return d.stream.way == traffic.OnRedis }, nil
}

// leader is the NATS server that leads most partitions.
func leader(ctx context.Context, r *recovery) ([]*process.Process, concerned, error) {
	led := map[string]map[event.Partition]bool{}
	for p := range event.Partition(r.Partitions) {
		name, err := r.leaderOf(ctx, p)
		if err != nil {
			return nil, nil, err
		}
		if led[name] == nil {
			led[name] = map[event.Partition]bool{}
		}
		led[name][p] = true
	}
	chosen := slices.MaxFunc(r.NATS, func(a, b *process.NATS) int { return len(led[a.Name()]) - len(led[b.Name()]) })
	return []*process.Process{chosen.Process}, inPartitions(led[chosen.Name()]), nil
}

// leaderOf asks until it is answered: servers that have only just come back
// leave some questions unanswered.
func (r *recovery) leaderOf(ctx context.Context, p event.Partition) (leader string, err error) {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	err = traffic.Until(ctx, fmt.Sprintf("partition %d has a leader", p), func() (bool, error) {
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		s, err := r.Log.JetStream().Stream(bounded, event.StreamName(p))
		if err == nil {
			leader = s.CachedInfo().Cluster.Leader
		}
		return leader != "", err
	})
	return leader, err
}

// strike does the fault to all targets side by side and returns when it is done:
// what is to be started again is ready then.
func (r *recovery) strike(ctx context.Context, f fault, targets []*process.Process) error {
	var tasks sync.WaitGroup
	for _, p := range targets {
		tasks.Go(func() {
			r.Do(ctx, f.action, p)
			if f.again {
				r.Undo(f.action, p)
			}
		})
	}
	tasks.Wait()
	if !f.again {
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	return r.AwaitReady(ctx)
}
