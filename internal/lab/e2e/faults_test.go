package e2e_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
)

// load publishes in the background, at a pace that leaves every orchestrator's
// events within its retention for as long as a test may take.
type load struct {
	published atomic.Int64
	stop      context.CancelFunc
	done      sync.WaitGroup
	err       error // read after done
}

const (
	loadBatch = 20
	loadPause = 20 * time.Millisecond
	loadLimit = 80_000 // 800 for each of 100 orchestrators
)

func (p *population) load() *load {
	l := &load{}
	ctx, stop := context.WithCancel(p.w.ctx)
	l.stop = stop
	l.done.Go(func() {
		tick := time.NewTicker(loadPause)
		defer tick.Stop()
		for l.err == nil && l.published.Load() < loadLimit {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			l.err = p.w.publisher.Publish(p.w.ctx, p.generate(loadBatch))
			l.published.Add(loadBatch)
		}
	})
	p.w.t.Cleanup(func() { _ = l.end() })
	return l
}

// end stops publishing and returns why it had failed, if it had.
func (l *load) end() error {
	l.stop()
	l.done.Wait()
	return l.err
}

// awaitMore waits until n more events have been published.
func (w *world) awaitMore(l *load, n int64) {
	w.t.Helper()
	target := l.published.Load() + n
	w.eventually(func() bool { return l.published.Load() >= target }, "the publisher stands still")
}

func TestKillingOneProcessOfEachTierLosesNothing(t *testing.T) {
	w := startWorld(t)
	p := w.populate(100)
	p.start(p.profiles())
	l := p.load()
	w.awaitMore(l, 1000)
	for _, victim := range []*cluster.Node{w.Edges[1], w.Routers[0], w.Bridges[1]} {
		victim.Kill()
		w.awaitForgotten(victim, len(p.running))
		w.awaitMore(l, 1000)
		require.NoError(t, victim.Start())
		require.NoError(t, w.AwaitReady(w.ctx))
		w.awaitMore(l, 1000)
	}
	require.NoError(t, l.end())
	p.settle(ledger.Promise{})
	// A bridge that comes back may publish before the one that has a backlog.
	report := p.judge(ledger.Promise{})
	require.GreaterOrEqual(t, report.Published, 7000)
}

// awaitForgotten waits until the others have noticed that a node is dead and
// all daemons are connected.
func (w *world) awaitForgotten(dead *cluster.Node, daemons int) {
	w.t.Helper()
	members := 0
	for _, n := range slices.Concat(w.Routers, w.Edges) {
		if n != dead {
			members++
		}
	}
	for _, n := range slices.Concat(w.Routers, w.Edges) {
		if n != dead {
			require.NoError(w.t, n.AwaitMetric(w.ctx, "gateway_directory_members", float64(members)))
			require.NoError(w.t, n.AwaitMetric(w.ctx, "gateway_directory_claims", float64(daemons)))
		}
	}
}

func TestAWholeClusterStopsAndContinues(t *testing.T) {
	w := startWorld(t)
	p := w.populate(30)
	p.start(p.profiles())
	p.publish(1_500)
	p.settle(everything)

	require.NoError(t, w.StopNodes(w.ctx), "every node ends in order, with exit code 0")
	for _, s := range w.NATS {
		require.NoError(t, s.Stop(w.ctx))
	}
	require.NoError(t, w.StartServers(w.ctx))
	require.NoError(t, w.log.Publish(w.ctx, w.ledger, p.generate(1_500), partitions))
	require.NoError(t, w.Start(w.ctx))

	p.settle(everything)
	p.publish(600)
	p.settle(everything)
	report := p.judge(everything)
	require.Equal(t, 3_600, report.Published)
	require.Zero(t, report.Repeats, "an orderly stop saves every ack")
}
