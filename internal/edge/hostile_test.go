package edge

import (
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// The wheel kept what had ended until its next heartbeat would have been due,
// and with it the window: 2 MiB for each connection of a client that came, read
// nothing of its events, and left, again and again.
func TestAConnectionThatHasEndedLeavesNoMemoryBehind(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge() // the first alarm, for want of an auth, is far ahead
	d := n.attach("orch-1", "daemon-1", everything)
	c.forward(n, c.publish("orch-1"), 0)
	d.expect(protocol.TypeEvent)

	connections := n.door.connections()
	require.Len(t, connections, 1)
	left := weak.Make(connections[0])
	clear(connections)
	require.NoError(t, d.conn.CloseNow())
	require.Eventually(t, func() bool {
		runtime.GC()
		return left.Value() == nil
	}, testserver.Patience, 10*time.Millisecond, "something still holds the connection")
}
