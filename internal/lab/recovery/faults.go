package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// action is what happens to a process.
type action int

const (
	kill      action = iota // killed, and down until the measurement is over
	rekill                  // killed, and started again at once, as a supervisor does
	restart                 // ended in order, and started again
	leave                   // a NATS server that leaves by its lame duck mode, and is started again
	freeze                  // paused until the measurement is over
	untouched               // nothing
)

// fault is what is measured.
type fault struct {
	name, what string
	action     action
	// targets are the processes it happens to, and concerned tells whose events
	// take a way through them; both are asked just before.
	targets func(ctx context.Context, w *world) (processes []*process.Process, concerned func(*seat) bool, err error)
}

func faults() []fault {
	return []fault{
		{"none", "nothing, for comparison", untouched, nobody},
		{"edge-killed", "an edge is killed", kill, oneEdge},
		{"router-killed", "a router is killed", kill, oneRouter},
		{"bridge-killed", "a bridge is killed", kill, oneBridge},
		{"nats-killed", "the NATS server that leads most partitions is killed", kill, leader},
		{"nats-paused", "the NATS server that leads most partitions stands still", freeze, leader},
		{"all-edges-killed", "all edges are killed and started again", rekill, allOf(edges)},
		{"all-routers-killed", "all routers are killed and started again", rekill, allOf(routers)},
		{"all-nats-killed", "all NATS servers are killed and started again", rekill, allOf(servers)},
		{"edge-restarted", "an edge is restarted in order", restart, oneEdge},
		{"router-restarted", "a router is restarted in order", restart, oneRouter},
		{"bridge-restarted", "a bridge is restarted in order", restart, oneBridge},
		{"nats-restarted", "the NATS server that leads most partitions is restarted in order, by lame duck mode", leave, leader},
		{"nats-terminated", "the NATS server that leads most partitions is ended by SIGTERM and started again", restart, leader},
		{"all-routers-restarted", "all routers are restarted in order, at once", restart, allOf(routers)},
	}
}

func edges(w *world) []*process.Process   { return processes(w.Edges) }
func routers(w *world) []*process.Process { return processes(w.Routers) }
func servers(w *world) (all []*process.Process) {
	for _, s := range w.NATS {
		all = append(all, s.Process)
	}
	return all
}

func processes(nodes []*cluster.Node) (all []*process.Process) {
	for _, n := range nodes {
		all = append(all, n.Process)
	}
	return all
}

func nobody(context.Context, *world) ([]*process.Process, func(*seat) bool, error) {
	return nil, func(*seat) bool { return false }, nil
}

func allOf(tier func(*world) []*process.Process) func(context.Context, *world) ([]*process.Process, func(*seat) bool, error) {
	return func(_ context.Context, w *world) ([]*process.Process, func(*seat) bool, error) {
		return tier(w), func(*seat) bool { return true }, nil
	}
}

func oneEdge(_ context.Context, w *world) ([]*process.Process, func(*seat) bool, error) {
	n := w.Edges[0]
	there := map[*seat]bool{}
	for _, x := range w.seats {
		there[x] = x.edge() == n.URL
	}
	return []*process.Process{n.Process}, func(x *seat) bool { return there[x] }, nil
}

func oneRouter(ctx context.Context, w *world) ([]*process.Process, func(*seat) bool, error) {
	n := w.Routers[0]
	owned := map[event.Partition]bool{}
	for p := range event.Partition(w.options.partitions) {
		value, err := n.Metric(ctx, "gateway_partition_owned", fmt.Sprintf(`partition="%d"`, p))
		if err != nil {
			return nil, nil, err
		}
		owned[p] = value == 1
	}
	return []*process.Process{n.Process}, inPartitions(owned), nil
}

func inPartitions(which map[event.Partition]bool) func(*seat) bool {
	return func(x *seat) bool { return which[x.stream.partition] }
}

func oneBridge(_ context.Context, w *world) ([]*process.Process, func(*seat) bool, error) {
	return processes(w.Bridges[:1]), func(x *seat) bool { return x.stream.onRedis }, nil
}

// leader is the NATS server that leads most partitions.
func leader(ctx context.Context, w *world) ([]*process.Process, func(*seat) bool, error) {
	led := map[string]map[event.Partition]bool{}
	for p := range event.Partition(w.options.partitions) {
		name, err := w.leaderOf(ctx, p)
		if err != nil {
			return nil, nil, err
		}
		if led[name] == nil {
			led[name] = map[event.Partition]bool{}
		}
		led[name][p] = true
	}
	chosen := slices.MaxFunc(w.NATS, func(a, b *process.NATS) int { return len(led[a.Name()]) - len(led[b.Name()]) })
	return []*process.Process{chosen.Process}, inPartitions(led[chosen.Name()]), nil
}

// leaderOf asks until it is answered: servers that have only just come back
// leave some questions unanswered.
func (w *world) leaderOf(ctx context.Context, p event.Partition) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		s, err := w.log.JetStream().Stream(bounded, event.StreamName(p))
		cancel()
		if err == nil && s.CachedInfo().Cluster.Leader != "" {
			return s.CachedInfo().Cluster.Leader, nil
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("partition %d has no leader: %w", p, errors.Join(context.Cause(ctx), err))
		}
		wait(ctx, publishRetry)
	}
}

// stopLimit is how long a process may take to end in order; more than
// SHUTDOWN_TIMEOUT, and than a NATS server takes to close its connections in
// lame duck mode: 10 s and up to 1 s for each.
const stopLimit = 40 * time.Second

// strike does it to all targets side by side and returns when it is done: what
// is to be started again is ready then.
func (f fault) strike(ctx context.Context, w *world, targets []*process.Process) error {
	failures := make([]error, len(targets))
	var tasks sync.WaitGroup
	for i, p := range targets {
		tasks.Go(func() { failures[i] = f.hit(ctx, p) })
	}
	tasks.Wait()
	if err := errors.Join(failures...); err != nil || f.action == kill || f.action == freeze {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return w.AwaitReady(ctx)
}

func (f fault) hit(ctx context.Context, p *process.Process) error {
	switch f.action {
	case freeze:
		return p.Pause()
	case kill:
		p.Kill()
		return nil
	case rekill:
		p.Kill()
	case restart:
		if err := end(ctx, p, syscall.SIGTERM); err != nil {
			return err
		}
	case leave:
		if err := end(ctx, p, syscall.SIGUSR2); err != nil {
			return err
		}
	}
	return p.Start()
}

// end asks a process to end and waits until it has.
func end(ctx context.Context, p *process.Process, how syscall.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	// Not its exit code: a process that does not listen to signals yet has none.
	_, err := p.End(ctx, how)
	return err
}

// choose returns the faults whose names match one of a list of patterns.
func choose(patterns string) ([]fault, error) {
	var chosen []fault
	for _, f := range faults() {
		for _, pattern := range strings.Split(patterns, ",") {
			match, err := path.Match(pattern, f.name)
			if err != nil {
				return nil, fmt.Errorf("faults %q: %w", pattern, err)
			}
			if match {
				chosen = append(chosen, f)
				break
			}
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no fault matches %q; -faults list lists them", patterns)
	}
	return chosen, nil
}
