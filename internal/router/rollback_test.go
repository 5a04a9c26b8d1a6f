package router

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// elected is a log whose leader knows nothing above a sequence for some answers,
// as one that was just elected and has not applied all that it has stored.
type elected struct {
	*eventlog.Log
	below   atomic.Uint64
	answers atomic.Int32 // that are still to be wrong
	rewrite atomic.Bool  // other messages stand where they stood
}

func (e *elected) Refresh(ctx context.Context, p event.Partition) (eventlog.State, error) {
	state, err := e.Log.Refresh(ctx, p)
	if below := e.below.Load(); below > 0 && e.answers.Add(-1) >= 0 {
		state.Last = below
	}
	return state, err
}

func (e *elected) Read(ctx context.Context, p event.Partition, token event.Token, from uint64, maxEvents, maxBytes int) (eventlog.Page, error) {
	page, err := e.Log.Read(ctx, p, token, from, maxEvents, maxBytes)
	if e.rewrite.Load() && len(page.Messages) > 0 {
		page.Messages[0].Stored = page.Messages[0].Stored.Add(time.Nanosecond)
	}
	return page, err
}

func (c *cluster) withElected(wrong int32, rewrite bool) (*elected, *routing, *partition) {
	log := &elected{Log: c.log}
	routing := c.routing(func(r *routing) {
		r.log = log
		r.timing.watchdog, r.timing.retry = 10*time.Millisecond, 10*time.Millisecond
	})
	id := c.log.Partition("alpha")
	p := serve(c.t.Context(), routing, id)
	c.t.Cleanup(func() {
		p.leave()
		<-p.done
	})
	last := c.publish("alpha")
	c.eventually(func() bool {
		r := p.current.Load()
		return r != nil && r.position.Load() >= last
	}, "the event")
	log.rewrite.Store(rewrite)
	log.answers.Store(wrong)
	log.below.Store(last - 1)
	return log, routing, p
}

// Regression: a chaos run killed and paused NATS servers of a cluster. A leader
// that was just elected said less of a partition than its router had seen, twice
// within milliseconds, and everybody was sent everything again.
func TestLeaderThatIsNotUpToDateIsNoRollback(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	log, routing, p := c.withElected(5, false)
	c.eventually(func() bool { return log.answers.Load() < -5 }, "looks at the leader that is up to date")
	require.Zero(t, testutil.ToFloat64(routing.metrics.epochs))
	require.Equal(t, c.log.Epoch(p.id), p.current.Load().epoch)
}

func TestPartitionThatGrewAgainAfterARollbackIsFoundOut(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	_, routing, _ := c.withElected(1, true)
	c.eventually(func() bool { return testutil.ToFloat64(routing.metrics.epochs) >= 1 }, "the epoch is raised")
}
