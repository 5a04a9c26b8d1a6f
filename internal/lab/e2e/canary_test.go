package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

// TestCanariesReachEveryEdge: the age and the latency of each edge move, and each
// bridge has its part in it.
func TestCanariesReachEveryEdge(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	const received = "gateway_canary_last_received_timestamp_seconds"
	before := map[*cluster.Node]float64{}
	for _, edge := range w.Edges {
		before[edge] = w.metric(edge, received)
	}
	for _, edge := range w.Edges {
		w.eventually(func() bool { return w.metric(edge, received) > before[edge] }, "no canary reaches %s", edge.Name())
		require.Positive(t, w.metric(edge, "gateway_canary_latency_seconds_count"))
		require.Positive(t, w.metric(edge, "gateway_canary_latency_seconds_sum"))
		require.Zero(t, w.metric(edge, "gateway_edge_forwarded_events_total"), "a canary is no user's event")
	}
	for _, router := range w.Routers {
		require.Zero(t, w.metric(router, "gateway_events_forwarded_total"))
		require.Zero(t, w.metric(router, "gateway_router_latency_seconds_count"))
	}
	for _, bridge := range w.Bridges {
		w.eventually(func() bool {
			return w.metric(bridge, "gateway_canary_published_total", `status="success"`) > 0
		}, "%s publishes no canary", bridge.Name())
		require.Zero(t, w.metric(bridge, "gateway_bridge_received_total"))
	}
}

// metric is what a node tells of itself. A node that is too busy to answer is
// asked again.
func (w *world) metric(n *cluster.Node, name string, labels ...string) (value float64) {
	w.t.Helper()
	var err error
	w.within(func() bool {
		value, err = n.Metric(w.ctx, name, labels...)
		return err == nil || !n.Running()
	})
	require.NoError(w.t, err)
	return value
}
