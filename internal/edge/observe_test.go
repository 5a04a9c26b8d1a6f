package edge

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

func TestEventsInHandAreCountedUntilTheyAreSettled(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Listen.MaxConnections = 7 })
	require.Equal(t, "7", n.metric("gateway_connections_limit"))
	events := []stored{c.publish("orch"), c.publish("orch")}
	d := n.attach("orch", "daemon", everything)
	n.eventuallyMetric("gateway_edge_unsettled_events", "2")
	d.expectEvents(events...)
	n.eventuallyMetric("gateway_edge_unsettled_events", "0")
	require.Equal(t, "0", n.metric("gateway_edge_evictions_suspected_total"))
}

func TestAReadThatFindsAsMuchAsTheLogKeepsSuspectsAnEviction(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Log.EventsPerOrchestrator = 2 })
	c.publish("orch")
	c.publish("orch")
	n.attach("orch", "daemon", everything)
	n.eventuallyMetric("gateway_edge_evictions_suspected_total", "1")
}

func TestTheExpiryShownIsThatOfTheCertificateInForce(t *testing.T) {
	t.Parallel()
	certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	issue(t, certFile, keyFile, 1)
	n := newCluster(t).edge(func(cfg *Config) { cfg.Listen.TLS.TLSCertFile, cfg.Listen.TLS.TLSKeyFile = certFile, keyFile })
	const expiry = "gateway_tls_certificate_not_after_timestamp_seconds"
	first, err := strconv.ParseFloat(n.metric(expiry), 64)
	require.NoError(t, err)
	require.InDelta(t, time.Now().Add(time.Hour).Unix(), first, 60)
	require.Eventually(t, func() bool {
		issue(t, certFile, keyFile, 2)
		renewed, err := strconv.ParseFloat(n.metric(expiry), 64)
		return err == nil && renewed > first
	}, testserver.Patience, 500*time.Millisecond, "it is read again though nobody connects")
}
