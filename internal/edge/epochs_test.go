package edge

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// While an epoch changes, each event that comes asks for the new one.
func TestManyEventsOfAnUnknownEpochMakeOneQuestion(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	l := n.door.services.Load().log
	release := make(chan struct{})
	for range l.asks.most {
		l.asks.submit(t, func(context.Context) { <-release })
	}
	for range 1000 {
		l.refreshEpoch(0)
	}
	l.asks.mu.Lock()
	waiting := len(l.asks.owned[event.Partition(0)])
	l.asks.mu.Unlock()
	close(release)
	require.Equal(t, 1, waiting)
	require.Eventually(t, func() bool { return !l.epochs.partitions[0].wanted.Load() }, testserver.Patience, time.Millisecond, "the next one asks again")
}
