package router

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// elected is a log whose leader is behind for some answers, as one that was just
// elected and has not applied all that it has stored.
type elected struct {
	*eventlog.Log
	behind atomic.Int32 // answers that are still to come
}

func (e *elected) Refresh(ctx context.Context, p event.Partition) (eventlog.State, error) {
	state, err := e.Log.Refresh(ctx, p)
	if e.behind.Add(-1) >= 0 {
		state.Last = 0
	}
	return state, err
}

func (e *elected) Compare(ctx context.Context, p event.Partition, epoch eventlog.Epoch, mark eventlog.Mark) (eventlog.State, eventlog.Standing, error) {
	state, standing, err := e.Log.Compare(ctx, p, epoch, mark)
	if e.behind.Add(-1) >= 0 {
		state.Last, standing = 0, eventlog.Behind
	}
	return state, standing, err
}

func (c *cluster) withElected() (*elected, *routing) {
	log := &elected{Log: c.log}
	return log, c.routing(func(r *routing) {
		r.log = log
		r.timing.watchdog, r.timing.retry = 10*time.Millisecond, 10*time.Millisecond
		r.timing.rollback = patience // more than these answers take
	})
}

func (c *cluster) serves(routing *routing, o event.Token, sequence uint64) *partition {
	c.t.Helper()
	p := serve(c.t.Context(), routing, c.log.Partition(o))
	c.t.Cleanup(func() {
		p.leave()
		<-p.done
	})
	c.eventually(func() bool {
		r := p.current.Load()
		return r != nil && r.position.Load() >= sequence
	}, "the event")
	return p
}

// Regression: a chaos run killed and paused NATS servers of a cluster. A leader
// that was just elected said less of a partition than its router had seen, twice
// within milliseconds, and everybody was sent everything again.
func TestLeaderThatIsNotUpToDateIsNoRollback(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	log, routing := c.withElected()
	p := c.serves(routing, "alpha", c.publish("alpha"))
	log.behind.Store(5)
	c.eventually(func() bool { return log.behind.Load() < -5 }, "looks at the leader that is up to date")
	require.Zero(t, testutil.ToFloat64(routing.metrics.epochs))
	require.Equal(t, c.log.Epoch(p.id), p.current.Load().epoch)
}

// Regression: a router that started then believed the leader at once.
func TestRouterThatStartsWaitsForALeaderThatIsNotUpToDate(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	log, routing := c.withElected()
	sequence := c.publish("alpha")
	first := c.serves(routing, "alpha", sequence)
	c.checkpointed("alpha", sequence)
	first.leave()
	<-first.done
	log.behind.Store(5)
	second := c.serves(routing, "alpha", sequence)
	require.Negative(t, log.behind.Load())
	require.Zero(t, testutil.ToFloat64(routing.metrics.epochs))
	require.Equal(t, c.log.Epoch(second.id), second.current.Load().epoch)
}

// replaced is a log whose stream is another one by the time that a consumer is
// made on it.
type replaced struct {
	*eventlog.Log
	replace func()
}

func (l replaced) Follow(ctx context.Context, p event.Partition, from uint64, handle func(eventlog.Message) error, options ...eventlog.FollowOption) error {
	if from > 1 {
		l.replace()
	}
	return l.Log.Follow(ctx, p, from, handle, options...)
}

// Regression: all of JetStream was lost while a router's consumer was being made.
// Bridges filled the new stream beyond the router's position, which went on there:
// daemons were sent what came last before what came first.
func TestConsumerOnAStreamThatWasReplacedFeedsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	p := c.log.Partition("alpha")
	js := c.server.JetStream()
	replace := sync.OnceFunc(func() {
		old, err := js.Stream(t.Context(), event.StreamName(p))
		require.NoError(t, err)
		require.NoError(t, js.DeleteStream(t.Context(), event.StreamName(p)))
		_, err = js.CreateStream(t.Context(), old.CachedInfo().Config)
		require.NoError(t, err)
		for range 10 {
			c.publish("alpha")
		}
	})
	routing := c.routing(func(r *routing) {
		r.log = replaced{c.log, replace}
		r.timing.watchdog = patience // nothing else finds it out
	})
	c.publish("alpha")
	sequence := c.publish("alpha")
	r := newRun(routing, p, c.log.Epoch(p), sequence)
	page, err := c.log.Read(t.Context(), p, "alpha", sequence, 1, 1<<20)
	require.NoError(t, err)
	r.noteFed(page.Messages[0])
	require.ErrorIs(t, r.do(t.Context(), t.Context()), errEpochChanged)
	require.Equal(t, sequence, r.fed.Load())
}

// setBack is how a partition comes to be one that was there before.
type setBack func(t *testing.T, c *cluster, stream string) (restore func())

var setsBack = map[string]setBack{
	"its files are put back": func(t *testing.T, c *cluster, stream string) func() {
		files := c.server.Copy(t, stream)
		return func() { files.RollBack(t) }
	},
	"a backup is restored through the API": func(t *testing.T, c *cluster, stream string) func() {
		js := c.server.JetStream()
		backup := testserver.BackUp(t, js, stream)
		return func() { backup.Restore(t, js) }
	},
}

// A stream that was rolled back keeps its time of creation and uses sequences
// again: without raising the epoch, none of the new events would be forwarded.
func TestRollbackRaisesTheEpochWhereverTheLogStandsWhenItIsNoticed(t *testing.T) {
	t.Parallel()
	for how, setBack := range setsBack {
		for _, grown := range []int{0, 1, 40} {
			for _, running := range []bool{true, false} {
				t.Run(testName(how, grown, running), func(t *testing.T) {
					t.Parallel()
					rollback(t, setBack, grown, running)
				})
			}
		}
	}
}

func testName(how string, grown int, running bool) string {
	name := map[int]string{0: "nothing comes", 1: "it stays below the checkpoint", 40: "it grows beyond the checkpoint"}[grown]
	if running {
		return how + ", " + name + ", the router runs"
	}
	return how + ", " + name + ", no router runs"
}

func rollback(t *testing.T, setBack setBack, grown int, running bool) {
	c := newCluster(t, testserver.NATS(t))
	e := c.edge("edge")
	e.claim("alpha")
	events := []uint64{c.publish("alpha")}
	restore := setBack(t, c, event.StreamName(c.log.Partition("alpha")))
	network := testserver.NATSProxy(t, c.server)
	r := c.router("router", func(cfg *Config) { cfg.NATS.NATSURL = []settings.URL{settings.URL(network.URL())} })
	c.known(r, "alpha")
	c.owning(r, partitions)
	var ahead uint64
	for range 20 {
		ahead = c.publish("alpha")
	}
	c.reached(e, "alpha", ahead)
	c.checkpointed("alpha", ahead)

	before := r.placement.get(c.log.Partition("alpha")).current.Load().epoch
	// The router comes back to a log that was another all the time.
	network.Cut()
	if !running {
		r.stop()
		<-r.ended
	}
	restore()
	for range grown {
		events = append(events, c.publish("alpha"))
	}
	network.Heal()
	if !running {
		r = c.router("successor")
		c.known(r, "alpha")
	}
	epoch := r.nextEpoch(c, "alpha", before)
	last := c.publish("alpha")
	c.eventually(func() bool { return e.knows(news{epoch, "alpha", last}) }, "what is new, in the new epoch")
	if running { // its claims were known when it started from the oldest
		for _, q := range events {
			require.True(t, e.knows(news{epoch, "alpha", q}), "event %d", q)
		}
	}
	require.Positive(t, testutil.ToFloat64(r.metrics.replays.Of(replayEpoch)), "what is repeated is counted")
}
