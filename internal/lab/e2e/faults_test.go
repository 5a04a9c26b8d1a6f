package e2e_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// load publishes in the background until endLoad, so that whatever happens is
// under way with events. They are few enough for the log to keep them however long
// the test takes; where many are to be on their way, the test publishes more.
func (p *population) load() {
	const every = 10 * time.Millisecond
	p.w.Feed.Start(traffic.Author{Way: traffic.OnRedis, Every: every, Next: func(time.Time) event.Event { return p.next() }})
}

// endLoad requires that a bridge has heard every event.
func (p *population) endLoad() {
	p.w.t.Helper()
	require.NoError(p.w.t, p.w.Feed.Finish(p.w.ctx))
	for _, x := range p.w.Feed.Since(time.Time{}) {
		require.NotZero(p.w.t, x.Taken, "%s was heard by no bridge", x.Event.ID)
	}
}

func TestKillingOneProcessOfEachTierLosesNothing(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.populate(50)
	w.enter(p.everybody()...)
	p.load()
	p.publish(500)
	for _, victim := range []*cluster.Node{w.Edges[1], w.Routers[0], w.Bridges[1]} {
		victim.Kill()
		w.awaitForgotten(victim)
		p.publish(500)
		require.NoError(t, victim.Start())
		require.NoError(t, w.AwaitReady(w.ctx))
		p.publish(500)
	}
	p.endLoad()
	p.settle(ledger.Promise{})
	// A bridge that comes back may publish before the one that has a backlog.
	report := p.judge(ledger.Promise{})
	require.GreaterOrEqual(t, report.Published, 3500)
}

// awaitForgotten waits until the others have noticed that a node is dead and
// all daemons are connected.
func (w *world) awaitForgotten(dead *cluster.Node) {
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
			require.NoError(w.t, n.AwaitMetric(w.ctx, "gateway_directory_claims", float64(w.Crowd.Present())))
		}
	}
}

func TestAWholeClusterStopsAndContinues(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.populate(30)
	w.enter(p.everybody()...)
	p.publish(1_500)
	p.settle(everything)

	require.NoError(t, w.StopNodes(w.ctx), "every node ends gracefully, with exit code 0")
	for _, s := range w.NATS {
		require.NoError(t, s.Stop(w.ctx))
	}
	require.NoError(t, w.StartServers(w.ctx))
	require.NoError(t, w.Feed.Publish(w.ctx, traffic.IntoLog, p.generate(1_500)...))
	require.NoError(t, w.Start(w.ctx))

	p.settle(everything)
	p.publish(600)
	p.settle(everything)
	report := p.judge(everything)
	require.Equal(t, 3_600, report.Published)
	require.Zero(t, report.Repeats, "a graceful stop saves every ack")
}
