package edge

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	canaryCount = "gateway_canary_latency_seconds_count"
	canaryTime  = "gateway_canary_last_received_timestamp_seconds"
)

// callingEdge starts an edge that calls all the time, not every 10 s, and returns
// its calls.
func (c *cluster) callingEdge(interval time.Duration) (*node, <-chan canary.Call) {
	c.t.Helper()
	calls := make(chan canary.Call, 1)
	sub := testserver.Answer(c.t, c.nc, canary.Subject, func(m *nats.Msg) {
		call, err := canary.ReadCall(m.Data)
		if err != nil {
			c.t.Errorf("an edge's call cannot be read: %v", err)
			return
		}
		select {
		case calls <- call:
		default: // the test has not taken the last one
		}
	})
	c.t.Cleanup(func() { _ = sub.Unsubscribe() })
	e, err := New(testConfig(c), quiet())
	require.NoError(c.t, err)
	e.canaryInterval = interval
	n := &node{Edge: e, t: c.t, stop: runEdge(c.t, e)}
	require.Eventually(c.t, func() bool { return n.ready() == http.StatusOK }, testserver.Patience, 10*time.Millisecond)
	return n, calls
}

// answer does what a bridge does with a call.
func (c *cluster) answer(call canary.Call) stored {
	c.t.Helper()
	body, err := call.Event()
	require.NoError(c.t, err)
	e, err := event.Parse(body, event.DefaultMaxBytes)
	require.NoError(c.t, err)
	return c.store(event.TokenOf(e.OrchestratorID), e.ID, body)
}

func TestCanaryThatComesBackIsMeasured(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n, calls := c.callingEdge(20 * time.Millisecond)
	started := n.metric(canaryTime)
	require.NotEqual(t, "0", started, "its age begins at the start")
	call := <-calls
	require.Equal(t, canary.Orchestrator(n.Member().Name), call.Orchestrator)
	require.Eventually(t, func() bool {
		held := n.directory.Holdings(event.TokenOf(call.Orchestrator))
		return len(held) == 1
	}, testserver.Patience, time.Millisecond, "routers forward to whom holds the orchestrator")

	s := c.answer(call)
	c.forward(n, s, 0)
	n.eventuallyMetric(canaryCount, "1")
	require.Eventually(t, func() bool { return n.metric(canaryTime) != started }, testserver.Patience, 10*time.Millisecond)
	seconds, err := strconv.ParseFloat(n.metric("gateway_canary_latency_seconds_sum"), 64)
	require.NoError(t, err)
	require.Positive(t, seconds)
}

// TestCanaryCountsOnce: routers send batches again, and two may send the same.
func TestCanaryCountsOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n, calls := c.callingEdge(20 * time.Millisecond)
	first, second := c.answer(<-calls), c.answer(<-calls)
	for _, s := range []stored{first, first, second, first, second} {
		c.forward(n, s, 0)
	}
	n.eventuallyMetric(canaryCount, "2")
}

// TestCanaryIsNoUsersEvent: no session, no cursor, nothing in what users count.
func TestCanaryIsNoUsersEvent(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n, calls := c.callingEdge(20 * time.Millisecond)
	d := n.attach("vp", "d1", everything)
	c.forward(n, c.answer(<-calls), 0)
	n.eventuallyMetric(canaryCount, "1")

	require.Equal(t, "0", n.metric("gateway_edge_forwarded_events_total"))
	n.eventuallyMetric("gateway_directory_claims", "1")
	n.eventuallyMetric(`gateway_connections{state="subscribed"}`, "1")
	require.Equal(t, 1, n.door.count())
	s := c.publish("vp")
	c.forward(n, s, 0)
	require.Equal(t, s.id, d.expect("event").text("eventId"), "a user's event is all that the daemon sees")
	n.eventuallyMetric("gateway_edge_forwarded_events_total", "1")
	n.stop() // it drains, and writes every cursor
	require.Equal(t, []string{"vp"}, c.cursorKeys())
}

// cursorKeys returns the orchestrators that have a cursor.
func (c *cluster) cursorKeys() (keys []string) {
	c.t.Helper()
	js := c.nats.JetStream()
	for p := range event.Partition(testConfig(c).Log.Partitions) {
		ctx, cancel := context.WithTimeout(c.t.Context(), testserver.Patience)
		defer cancel()
		bucket, err := js.KeyValue(ctx, "daemon_cursors_"+strconv.Itoa(int(p)))
		require.NoError(c.t, err)
		list, err := bucket.ListKeys(ctx)
		require.NoError(c.t, err)
		for key := range list.Keys() {
			keys = append(keys, key)
		}
	}
	return keys
}

// TestNothingDependsOnCanaries: no bridge answers, and what comes under the
// canary's name is not one.
func TestNothingDependsOnCanaries(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n, calls := c.callingEdge(time.Millisecond)
	for range 10 {
		<-calls
	}
	c.forward(n, c.publish(string(canary.Orchestrator(n.Member().Name))), 0)
	require.Equal(t, http.StatusOK, n.ready())
	d := n.attach("vp", "d1", everything)
	s := c.publish("vp")
	c.forward(n, s, 0)
	require.Equal(t, s.id, d.expect("event").text("eventId"))
	require.Equal(t, "0", n.metric(canaryCount))
}

func TestCallsAreNotKeptWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n, calls := c.callingEdge(time.Hour)
	caller := newCaller(n.nats.NC, n.directory, time.Hour, n.metrics, quiet())
	c.nats.Shutdown()
	require.Eventually(t, func() bool { ok, _ := n.nats.Check(); return !ok }, testserver.Patience, time.Millisecond)
	for range 10 {
		require.ErrorIs(t, caller.call(time.Second), nats.ErrDisconnected)
	}
	c.nats.Start()
	require.Eventually(t, func() bool {
		if caller.call(time.Minute) != nil {
			return false
		}
		select {
		case call := <-calls:
			return call.Uptime == time.Minute
		default:
			return false // the test's own connection is not back yet
		}
	}, testserver.Patience, 10*time.Millisecond)
}
