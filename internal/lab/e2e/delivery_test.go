package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

var everything = ledger.Promise{Unacked: true, PublishOrder: true}

func TestEveryEventIsDeliveredOnceAndInOrder(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.populate(50)
	w.enter(p.everybody()...)
	require.Equal(t, 100, w.Crowd.Present())
	p.publish(3_000)
	p.settle(everything)
	report := p.judge(everything)
	require.Equal(t, 3_000, report.Published)
	require.Zero(t, report.Repeats, "nothing failed, so nothing had to be sent again")
	letters, err := w.Log.DeadLetters(w.ctx)
	require.NoError(t, err)
	require.Empty(t, letters)
}

func TestDaemonsContinueOnOtherEdgesWithNewIDs(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.populate(50)
	w.enter(p.everybody()...)
	p.publish(1_000)

	// A third of the orchestrators loses all its daemons, in the middle of it.
	var movers []*traffic.Seat
	for i, seats := range p.seats {
		if i%3 == 0 || i%7 == 0 {
			movers = append(movers, seats...)
		}
	}
	for range 2 {
		w.leave(movers...)
		require.NoError(t, w.AwaitClaims(w.ctx, w.Crowd.Present()))
		p.publish(1_000)
		rename(movers...)
		w.enter(movers...)
		p.publish(1_000)
	}
	// What needs no ack is sent once, so a daemon that goes may miss it.
	p.settle(ledger.Promise{})
	report := p.judge(ledger.Promise{PublishOrder: true})
	require.Equal(t, 5_000, report.Published)
}
