package edge

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
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

// Each event of an unknown epoch that came while a leader was silent had a place among the
// questions of all partitions.
func TestALeaderThatIsSilentIsAskedForItsEpochByFew(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	l := n.door.services.Load().log
	asked := &l.epochs.partitions[0].mu
	asked.Lock() // as while a question is under way
	defer asked.Unlock()
	for range 1000 {
		l.refreshEpoch(0)
		runtime.Gosched() // to whoever is to ask
	}
	other := make(chan struct{})
	l.asks.submit(other, func(context.Context) { close(other) })
	select {
	case <-other:
	case <-time.After(testserver.Patience):
		require.Fail(t, "another partition does not get to ask")
	}
}

// Many daemons that come back at once may have cursors newer than what the leader
// said last; what it says next covers them all.
func TestManyCursorsThatAreNewerMakeFewQuestions(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	l := n.door.services.Load().log
	const cursors = 200
	var newest eventlog.Position
	for i := range cursors {
		ack, err := c.log.Publish(t.Context(), "vp", strconv.Itoa(i), []byte("{}"))
		require.NoError(t, err)
		newest = eventlog.Position{Partition: ack.Partition, Epoch: l.log.Epoch(ack.Partition), Sequence: ack.Sequence}
	}
	questions := testserver.Listen(t, c.nc, "$JS.API.STREAM.INFO."+event.StreamName(newest.Partition))
	var starts sync.WaitGroup
	for i := range uint64(cursors) {
		starts.Go(func() {
			at := newest
			at.Sequence -= i
			assert.True(t, l.epochs.covers(t.Context(), at))
		})
	}
	starts.Wait()
	require.NoError(t, c.nc.Flush())
	asked, _, err := questions.Pending()
	require.NoError(t, err)
	require.NotZero(t, asked)
	require.Less(t, asked, cursors/10)
}
