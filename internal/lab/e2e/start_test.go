package e2e_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
)

func TestNodesWaitForTheirServersAndSaySo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// Not even the directory is complete: routers come last.
	for _, n := range slices.Concat(w.Edges, w.Bridges, w.Routers) {
		require.NoError(t, n.Start())
	}
	for _, n := range slices.Concat(w.Edges, w.Routers) {
		w.awaitWaiting(n, "log", "nats")
	}
	for _, n := range w.Bridges {
		w.awaitWaiting(n, "log", "nats", "redis")
	}
	// Daemons are not kept waiting, and the process is not to be restarted.
	for _, n := range w.Edges {
		require.Equal(t, http.StatusServiceUnavailable, w.upgrade(n.URL))
	}
	for _, n := range w.Nodes() {
		require.Equal(t, http.StatusOK, w.status("http://"+n.AdminAddr+"/livez"))
	}

	require.NoError(t, w.Redis.Start())
	for _, n := range w.Bridges {
		w.awaitWaiting(n, "log", "nats")
	}
	require.NoError(t, w.StartServers(w.ctx))
	require.NoError(t, w.AwaitReady(w.ctx))

	w.connect()
	p := w.populate(5)
	w.enter(p.everybody()...)
	p.publish(100)
	p.settle(everything)
	p.judge(everything)
}

// awaitWaiting waits until a node is not ready because these servers and what
// is on them are not there, and only these; each is explained. What a node
// waits for beside that, such as its own start, does not count.
func (w *world) awaitWaiting(n *cluster.Node, wanted ...string) {
	w.t.Helper()
	var r cluster.Readiness
	w.eventually(func() bool {
		var err error
		r, err = n.Readiness(w.ctx)
		waiting := slices.DeleteFunc(r.Waiting(), func(name string) bool { return name != "log" && name != "nats" && name != "redis" })
		return err == nil && !r.Ready && slices.Equal(waiting, wanted)
	}, "%s does not wait for %v", n.Name(), wanted)
	for _, name := range r.Waiting() {
		require.NotEmpty(w.t, r.Checks[name].Detail, "%s does not say why %s is not ready", n.Name(), name)
	}
}
