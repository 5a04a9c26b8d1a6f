package edge

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// loseTail has a daemon receive and acknowledge events of which rollBack takes all
// but the first out of the log.
func (c *cluster) loseTail(n *node) (d *client, kept stored, rollBack func()) {
	c.t.Helper()
	kept = c.publish("orch")
	files := c.nats.Copy(c.t, event.StreamName(kept.p))
	lost := []stored{c.publish("orch"), c.publish("orch"), c.publish("orch")}
	d = n.attach("orch", "daemon", everything)
	d.expectEvents(kept)
	d.expectEvents(lost...)
	return d, kept, func() { files.RollBack(c.t) }
}

// Invariant 1: all of NATS lost power, and more of the log than of the cursors.
// What is stored then stands where the cursors have settled something else.
func TestCursorsThatOutliveTheirLogHideNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	d, kept, rollBack := c.loseTail(n)
	d.leave(n)
	rollBack()

	next := c.publish("orch")
	d = c.edge().attach("orch", "daemon", everything)
	require.LessOrEqual(t, next.sequence, kept.sequence+3, "where another event stood")
	d.expectEvents(kept, next)
}

// Invariant 1: the log was rolled back under connections that live, and no router
// has seen more of it than it has now.
func TestALogThatFellBehindConnectionsHidesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d, kept, rollBack := c.loseTail(c.edge(func(cfg *Config) { cfg.Delivery.NetInterval = time.Second }))
	rollBack()

	next := c.publish("orch")
	require.LessOrEqual(t, next.sequence, kept.sequence+3, "where another event stood")
	d.expectEvents(kept, next)
}

// Invariant 1: what the leader said before the log was rolled back says nothing of
// the log that there is now, whether this edge's connection to NATS was lost or not.
func TestALeadersAnswerIsOldAfterAMoment(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	keeper := newEpochKeeper(c.log)
	kept := c.publish("orch")
	files := c.nats.Copy(t, event.StreamName(kept.p))
	lost := c.publish("orch")
	at := eventlog.Position{Partition: lost.p, Epoch: c.log.Epoch(lost.p), Sequence: lost.sequence}
	require.True(t, keeper.covers(t.Context(), at))
	files.RollBack(t)
	require.Eventually(t, func() bool {
		return !keeper.covers(t.Context(), at) && c.log.Epoch(at.Partition).Newer(at.Epoch)
	}, testserver.Patience, tick)
}

// Each leader that is behind for a moment is given its time from the start,
// also in the epoch that came of the one before.
func TestEachLeaderThatIsBehindIsGivenTime(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	keeper := newEpochKeeper(c.log)
	last := c.publish("orch")
	ahead := func() eventlog.Position {
		return eventlog.Position{Partition: last.p, Epoch: c.log.Epoch(last.p), Sequence: last.sequence + 2}
	}
	// long has the log behind the cursor for longer than any leader is.
	long := func() {
		require.False(t, keeper.covers(t.Context(), ahead()))
		keeper.partitions[last.p].since = time.Now().Add(-time.Hour)
	}

	long()
	epoch, err := c.log.RaiseEpoch(t.Context(), last.p, c.log.Epoch(last.p))
	require.NoError(t, err)
	require.False(t, keeper.covers(t.Context(), ahead()))
	require.Equal(t, epoch, c.log.Epoch(last.p), "another epoch")

	long()
	reached := ahead()
	for last.sequence < reached.Sequence {
		last = c.publish("orch")
	}
	require.True(t, keeper.covers(t.Context(), reached))
	require.False(t, keeper.covers(t.Context(), ahead()))
	require.Equal(t, epoch, c.log.Epoch(last.p), "reached meanwhile")

	long()
	require.False(t, keeper.covers(t.Context(), ahead()))
	require.True(t, c.log.Epoch(last.p).Newer(epoch), "and one that stays behind is not")
}
