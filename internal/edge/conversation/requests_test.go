package conversation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRequestsCountTogetherWithMessages(t *testing.T) {
	t.Parallel()
	l := NewLimits(Rates{MessagesPerMinute: 2, AcksPerMinute: 60})
	l.message(start)
	require.Zero(t, l.Request(start))
	require.Equal(t, 50*time.Second, l.Request(start.Add(10*time.Second)))
	require.Zero(t, l.Request(start.Add(time.Minute)))
}

func TestAcksByRequestAreRefusedUntilTheyFitAgain(t *testing.T) {
	t.Parallel()
	l := NewLimits(Rates{MessagesPerMinute: 1, AcksPerMinute: 60})
	for range 59 {
		require.Zero(t, l.AckRequest(start))
	}
	require.Zero(t, l.ack(start))
	for range 100 {
		require.Equal(t, time.Second, l.AckRequest(start), "what is refused counts for nothing")
	}
	require.Zero(t, l.AckRequest(start.Add(time.Second)))
}
