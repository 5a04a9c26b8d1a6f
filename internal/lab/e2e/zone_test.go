package e2e_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// One node of each tier and a NATS server in each of three zones; one zone goes
// dark. Redis is elsewhere: a failover of it is a gap that only Redis can close.
func TestLosingAZoneLosesNothing(t *testing.T) {
	t.Parallel()
	w := startWorld(t, func(cfg *cluster.Config) {
		cfg.NATS, cfg.Edges, cfg.Routers, cfg.Bridges = 3, 3, 3, 3
		cfg.Settings = map[string]string{"STREAM_REPLICAS": "3", "EVENTS_PER_ORCHESTRATOR": "10000"}
	})
	p := w.populate(50)
	w.enter(p.everybody()...)
	p.load()
	p.publish(500)

	zone := []*process.Process{w.NATS[2].Process, w.Edges[2].Process, w.Routers[2].Process, w.Bridges[2].Process}
	for _, process := range zone {
		process.Kill()
	}
	p.publish(1000)
	for _, n := range slices.Concat(w.Edges[:2], w.Routers[:2]) {
		require.NoError(t, n.AwaitMetric(w.ctx, "gateway_directory_members", 4))
		require.NoError(t, n.AwaitMetric(w.ctx, "gateway_directory_claims", float64(w.Crowd.Present())), "all daemons are with the others")
	}
	p.endLoad()
	p.settle(ledger.Promise{})

	for _, process := range zone {
		require.NoError(t, process.Start())
	}
	require.NoError(t, w.AwaitReady(w.ctx))
	p.publish(500)
	p.settle(ledger.Promise{})
	p.judge(ledger.Promise{})
}
