package traffic

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// A machine that has vanished dials nobody: a run that goes on would have more
// and more of them.
func TestADaemonWhoseMachineHasVanishedEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	edge, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = edge.Close() })
	d, err := StartDaemon(ledger.New(), Profile{
		Seat: "seat", Orchestrator: "o", Daemon: "d", Secret: "secret-of-at-least-thirty-two-bytes!",
		URLs: []string{"ws://" + edge.Addr().String() + protocol.Path},
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Stop() })
	first, err := edge.Accept()
	require.NoError(t, err)
	d.Desert()
	require.NoError(t, first.Close())
	d.Cut()
	<-d.Ended()
}
