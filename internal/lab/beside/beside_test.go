// Package beside_test asks an edge and a server built on Node's ws the same things,
// since daemons were written against servers of that kind: as bytes on the wire, and
// with the clients of three languages. What they do otherwise stands in
// docs/protocol.md, and only there.
package beside_test

import (
	"bufio"
	"context"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/edge"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestMain(m *testing.M) { testserver.Main(m) }

// startEdge returns the address of an edge that takes connections.
func startEdge(t *testing.T) string {
	t.Helper()
	nats := testserver.NATS(t)
	cfg := settings.Default[edge.Config]()
	cfg.Listen.ListenAddr, cfg.Admin.AdminAddr, cfg.Ring.GossipAddr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.NATS.NATSURL = []settings.URL{settings.URL(nats.ClientURL())}
	cfg.Log.Partitions = 2
	cfg.Auth.DaemonJWTSecret = "a-secret-of-the-tests-with-enough-bytes"
	cfg.Listen.DrainPeriod, cfg.ShutdownTimeout = 0, testserver.Patience
	cfg.Listen.RateConnectsPerIP = 1_000
	cfg.Sockets.WSAuthTimeout = settings.Milliseconds(testserver.Patience)
	cfg.Sockets.WSWriteTimeout = testserver.Patience
	quiet := slog.New(slog.DiscardHandler)
	_, err := eventlog.Open(t.Context(), nats.JetStream(), cfg.Log, quiet, prometheus.NewRegistry())
	require.NoError(t, err)
	e, err := edge.New(cfg, quiet)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	require.Eventually(t, func() bool {
		answer, err := http.Get("http://" + e.AdminAddr().String() + "/readyz")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, testserver.Patience, 10*time.Millisecond)
	return e.Addr().String()
}

// startNode returns the address of a server built on ws.
func startNode(t *testing.T) string {
	t.Helper()
	cmd := testserver.Node(t, "testdata/server.js")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // it was ended with the test
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return "127.0.0.1:" + strings.TrimSpace(port)
}

func address(host string) string { return "ws://" + host + protocol.Path }
