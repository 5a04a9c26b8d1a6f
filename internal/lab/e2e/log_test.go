package e2e_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// moby/moby#19728, prometheus/node_exporter#587: journald was started again, and with
// it ended every program of Go that then wrote a line.
func TestWhoReadsTheLogMayGoAway(t *testing.T) {
	t.Parallel()
	for _, path := range []string{binaries.Edge, binaries.Router, binaries.Bridge} {
		read, write, err := os.Pipe()
		require.NoError(t, err)
		// Without servers it has much to say.
		cmd := exec.CommandContext(t.Context(), path)
		cmd.Env = []string{
			"LOG_LEVEL=debug", "NATS_URL=nats://127.0.0.1:1", "REDIS_URL=redis://127.0.0.1:1", "DAEMON_JWT_SECRET=0123456789-0123456789-0123456789",
			"GOSSIP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "LISTEN_ADDR=127.0.0.1:0", "DRAIN_PERIOD=0s",
		}
		cmd.Stderr = write
		require.NoError(t, cmd.Start())
		require.NoError(t, write.Close())
		_, err = read.Read(make([]byte, 1)) // it has begun
		require.NoError(t, err)
		require.NoError(t, read.Close())
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait(), path)
	}
}
