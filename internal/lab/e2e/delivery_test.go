package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

var everything = ledger.Promise{Unacked: true, PublishOrder: true}

func TestEveryEventIsDeliveredOnceAndInOrder(t *testing.T) {
	w := startWorld(t)
	p := w.populate(100)
	p.start(p.profiles())
	require.Len(t, p.running, 200)
	p.publish(20_000)
	p.settle(everything)
	report := p.judge(everything)
	require.Equal(t, 20_000, report.Published)
	require.Zero(t, report.Repeats, "nothing failed, so nothing had to be sent again")
	letters, err := w.log.DeadLetters(w.ctx)
	require.NoError(t, err)
	require.Empty(t, letters)
}

func TestDaemonsContinueOnOtherEdgesWithNewIDs(t *testing.T) {
	w := startWorld(t)
	p := w.populate(100)
	p.start(p.profiles())
	p.publish(4_000)

	// A third of the orchestrators loses all its daemons, in the middle of it.
	var movers []traffic.Profile
	for i, seats := range p.seats {
		if i%3 == 0 || i%7 == 0 {
			movers = append(movers, seats...)
		}
	}
	for range 2 {
		p.stop(movers)
		w.awaitClaims(len(p.running))
		p.publish(4_000)
		movers = p.rename(movers)
		p.start(movers)
		p.publish(4_000)
	}
	// What needs no ack is sent once, so a daemon that goes may miss it.
	p.settle(ledger.Promise{})
	report := p.judge(ledger.Promise{PublishOrder: true})
	require.Equal(t, 20_000, report.Published)
}

// awaitClaims waits until all edges and routers agree on how many daemons are
// connected: whoever comes then is seen to take the place of who has left.
func (w *world) awaitClaims(n int) {
	w.t.Helper()
	for _, node := range append(w.Routers, w.Edges...) {
		require.NoError(w.t, node.AwaitMetric(w.ctx, "gateway_directory_claims", float64(n)))
	}
}
