package router

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// oneEdge is a routing in which one edge holds everybody.
func oneEdge(batch int) *routing {
	shared := &routing{
		cfg: Config{FetchBatch: batch}, metrics: newMetrics(prometheus.NewRegistry()), logger: slog.New(slog.DiscardHandler),
		holders: func(dst []string, _ event.Token) []string { return append(dst, "edge") },
	}
	shared.cfg.Log.MaxEventBytes, shared.cfg.Log.Partitions = 1<<10, 1
	return shared
}

// Invariant 1. A run used to receive one event more than it fed to the lane
// whenever FETCH_BATCH events were at hand: the event was never forwarded, and
// the next one of its orchestrator claimed that there was nothing between.
func TestEveryEventAtHandIsFedToTheLane(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 2, 3, 7} {
		r := newRun(oneEdge(batch), 0, "epoch", 0)
		const events = 20
		r.events = make(chan eventlog.Message, events)
		for q := range uint64(events) {
			r.events <- eventlog.Message{Token: "o", Sequence: q + 1, Body: []byte(`{"id":"e","type":"a.b","orchestratorId":"o","payload":{}}`)}
		}
		for len(r.events) > 0 {
			r.take(<-r.events)
		}
		r.lane.Flush()
		var fed []uint64
		for _, effect := range r.lane.Take(nil) {
			for _, f := range effect.(lane.Send).Batch.Events {
				fed = append(fed, f.Sequence)
			}
		}
		require.Len(t, fed, events, "FETCH_BATCH %d", batch)
	}
}

// Regression: what could not even be sent was given up only after two times
// FORWARD_TIMEOUT, so that a restart of a NATS server was felt for seconds.
func TestABatchThatCannotBeSentBecomesHintsAtOnce(t *testing.T) {
	t.Parallel()
	nc := testserver.Connect(t, testserver.NATS(t).ClientURL())
	shared := oneEdge(1)
	var err error
	shared.requests, err = newRequests(nc)
	require.NoError(t, err)
	nc.Close()
	r := newRun(shared, 0, "epoch", 0)
	r.take(eventlog.Message{Token: "o", Sequence: 1, Body: []byte(`{"id":"e","type":"a.b","orchestratorId":"o","payload":{}}`)})
	r.lane.Flush()
	r.carryOut()
	require.Empty(t, r.sent, "nobody waits for a receipt")
	require.Equal(t, 1, r.lane.Lagging(), "the edge is tried again with hints")
	require.Zero(t, r.lane.Checkpoint(), "and the event is still its due")
}

// Regression: receipts that were lost with the connection were waited for.
func TestWhatIsNotConfirmedIsSentAgainWhenNATSIsBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	r := c.router("router", func(cfg *Config) { cfg.ForwardTimeout = time.Hour })
	c.owning(r, partitions)
	e := c.edge("edge")
	e.claim("o")
	c.known(r, "o")
	e.mute.Store(true)
	sequence := c.publish("o")
	c.eventually(func() bool {
		return r.placement.get(c.log.Partition("o")).current.Load().position.Load() >= sequence
	}, "sent")
	e.mute.Store(false)
	require.NoError(t, r.conn.NC.ForceReconnect())
	c.reached(e, "o", sequence)
}
