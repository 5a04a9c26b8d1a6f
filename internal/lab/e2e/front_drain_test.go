package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// moveBehind has all daemons connect through a load balancer.
func (p *population) moveBehind(f *front) {
	for _, s := range p.everybody() {
		s.Profile.URLs, s.Profile.TLS = []string{f.url("ws", protocol.Path)}, f.tls
	}
}

// newcomers are daemons that nobody has published anything for.
func (f *front) newcomers(w *world, n int) (all []*traffic.Seat) {
	for i := range n {
		all = append(all, f.seat(w, fmt.Sprintf("newcomer-%d", i), protocol.Path))
	}
	return all
}

// An edge is stopped without a word to the load balancer, which has to find out
// by itself. Daemons that come before it has are tried elsewhere.
func TestALoadBalancerHidesThatAnEdgeStopsOrDies(t *testing.T) {
	t.Parallel()
	for _, file := range []string{haproxyHTTP, nginxHTTP} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			w := startWorld(t, with(map[string]string{"DRAIN_PERIOD": "3s", "BALANCE_RATE": "0"}))
			f := w.stand(file, testserver.NewCertificate(t, 1), neolith(t))
			p := w.populate(40)
			p.moveBehind(f)
			seen := p.watch()
			w.enter(p.everybody()...)
			p.load()
			p.publish(500)

			w.restartDraining(seen, w.Edges[0])
			w.awaitUse(f, w.Edges[0])
			p.publish(500)
			require.Empty(t, seen.rudeness(), "and nobody sees an error")

			w.killBehind(w.Edges[1])
			require.Empty(t, refusals(seen), "daemons lose their connections, and get new ones at once")
			require.NoError(t, w.Edges[1].Start())
			require.NoError(t, w.AwaitReady(w.ctx))
			w.awaitUse(f, w.Edges[1])
			w.enter(f.newcomers(w, 30)...)
			require.Equal(t, 30, w.connections(w.Edges[1]), "those who come go to the edge with the fewest connections")

			p.endLoad()
			p.settle(ledger.Promise{})
			p.judge(ledger.Promise{})
		})
	}
}

// A load balancer that does not see HTTP cannot try another edge, so the edge is
// taken out first.
func TestAnEdgeThatIsTakenOutOfALoadBalancerWithoutHTTPStopsUnnoticed(t *testing.T) {
	t.Parallel()
	certificate, settings := secured(t, map[string]string{"DRAIN_PERIOD": "3s", "BALANCE_RATE": "0", "TRUSTED_PROXIES": "127.0.0.1/32"})
	w := startWorld(t, with(settings))
	f := w.stand(haproxyTCP, certificate, "")
	p := w.populate(40)
	p.moveBehind(f)
	seen := p.watch()
	w.enter(p.everybody()...)
	p.load()
	p.publish(500)
	f.command(t, "set server edges/edge-1 state drain")
	w.restartDraining(seen, w.Edges[0])
	f.command(t, "set server edges/edge-1 state ready")
	w.awaitUse(f, w.Edges[0])
	p.publish(500)
	p.endLoad()
	p.settle(ledger.Promise{})
	require.Empty(t, seen.rudeness())
	p.judge(ledger.Promise{})
}

// restartDraining stops an edge gracefully and starts it again once all daemons
// are on the others. Each of its own is asked to reconnect, and nobody else.
func (w *world) restartDraining(seen *manners, e *cluster.Node) {
	w.t.Helper()
	held := w.connections(e)
	require.NotZero(w.t, held)
	require.NoError(w.t, e.Stop(w.ctx), "it ends gracefully, with exit code 0")
	require.Len(w.t, seen.take(), held)
	w.awaitForgotten(e)
	require.NoError(w.t, e.Start())
	require.NoError(w.t, w.AwaitReady(w.ctx))
}

// killBehind kills an edge and waits until all daemons are on the others.
func (w *world) killBehind(victim *cluster.Node) {
	w.t.Helper()
	require.NotZero(w.t, w.connections(victim))
	victim.Kill()
	w.awaitForgotten(victim)
}

// refusals are upgrades that were answered with an error.
func refusals(seen *manners) []string {
	return slices.DeleteFunc(slices.Clone(seen.rudeness()), func(what string) bool { return !strings.Contains(what, "HTTP status") })
}

// awaitUse waits until the load balancer gives an edge connections again.
func (w *world) awaitUse(f *front, e *cluster.Node) {
	w.t.Helper()
	before := w.metric(e, "gateway_edge_closes_total")
	client := f.httpClient(w.t, nil, false)
	w.eventually(func() bool {
		f.ask(w, client, "GET", protocol.Path, "", handshake())
		return w.metric(e, "gateway_edge_closes_total") > before
	}, "%s gets no connections", e.Name())
	w.eventually(func() bool { return w.connections(e) == 0 }, "%s keeps connections", e.Name())
}
