package edge

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// Invariant 1: all of NATS lost power, and more of the log than of the cursors.
// What is stored then stands where the cursors have settled something else.
func TestCursorsThatOutliveTheirLogHideNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	kept := c.publish("orch")
	files := c.nats.Copy(t, event.StreamName(kept.p))
	lost := []stored{c.publish("orch"), c.publish("orch"), c.publish("orch")}
	n := c.edge()
	d := n.attach("orch", "daemon", everything)
	d.expectEvents(kept)
	d.expectEvents(lost...)
	d.leave(n)
	files.RollBack(t)

	next := c.publish("orch")
	d = c.edge().attach("orch", "daemon", everything)
	require.LessOrEqual(t, next.sequence, kept.sequence+3, "where another event stood")
	d.expectEvents(kept, next)
}
