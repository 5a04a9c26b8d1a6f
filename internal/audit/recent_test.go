package audit

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRefusalsAreCountedByWhoAndWhy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		from := netip.MustParseAddr("192.0.2.1")
		for range 2 * burst { // more than the log takes
			b.Write(TokenRefused, "expired", "orchestrator", "orch", "daemon", "d", "address", from)
		}
		<-time.After(time.Second)
		b.Write(ConnectionRefused, "rate", "address", from.String())
		b.Write(SessionBegan, "", "orchestrator", "orch")
		b.Write(OperatorActed, "drained")
		began := time.Now()
		r := b.Refusals()
		require.Zero(t, r.Forgotten)
		require.Equal(t, []Refusal{
			{Act: ConnectionRefused, Reason: "rate", Address: "192.0.2.1", Count: 1, First: began, Last: began},
			{Act: TokenRefused, Reason: "expired", Address: "192.0.2.1", Orchestrator: "orch", Count: 2 * burst,
				First: began.Add(-time.Second), Last: began.Add(-time.Second)},
		}, r.Refusals)
		<-time.After(recentTime - time.Second)
		require.Len(t, b.Refusals().Refusals, 1, "what is an hour old is forgotten")
	})
}

// Whoever attacks chooses addresses and ids.
func TestWhatIsRememberedOfRefusalsIsBounded(t *testing.T) {
	t.Parallel()
	b := newBook()
	for i := range 3 * recentSize {
		b.Write(TokenRefused, "expired", "orchestrator", strings.Repeat("x", 1<<10), "address", fmt.Sprint(i))
	}
	r := b.Refusals()
	require.Len(t, r.Refusals, recentSize)
	require.Equal(t, 2*recentSize, r.Forgotten)
	require.Len(t, r.Refusals[0].Orchestrator, maxText)
	require.Equal(t, fmt.Sprint(3*recentSize-1), r.Refusals[0].Address, "those who came last are remembered")
}
