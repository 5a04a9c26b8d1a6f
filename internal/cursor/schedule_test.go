package cursor

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// While NATS takes nothing acks go on coming, so what waits to be written must
// grow with the orchestrators and not with the acks (invariant 4).
func TestARecordWaitsOnceHoweverOftenItIsReported(t *testing.T) {
	t.Parallel()
	s := newSchedule()
	for range 1000 {
		s.add("o")
		s.hurry("o")
	}
	require.Equal(t, []event.Token{"o"}, s.takeHurried())
	var due []event.Token
	for moment := range moments {
		due = append(due, s.take(moment)...)
	}
	require.Equal(t, []event.Token{"o"}, due)
}
