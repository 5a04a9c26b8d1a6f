package natsconn_test

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// Certificates are renewed without a restart: NATS and its clients are given new
// ones, and whoever connects next reads its files again.
func TestCertificatesAreReadAgainForEachConnection(t *testing.T) {
	t.Parallel()
	var shown atomic.Pointer[tls.Certificate] // by the server
	var client atomic.Int64                   // serial number of who connected last
	dir := t.TempDir()
	renew := func(serial int64) {
		t.Helper()
		ofServer, ofClient := testserver.NewCertificate(t, serial), testserver.NewCertificate(t, serial+1)
		pair, err := tls.X509KeyPair(ofServer.Certificate, ofServer.Key)
		require.NoError(t, err)
		shown.Store(&pair)
		for name, pem := range map[string][]byte{"ca.crt": ofServer.Certificate, "tls.crt": ofClient.Certificate, "tls.key": ofClient.Key} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem, 0o600))
		}
	}
	renew(10)
	s := testserver.NATS(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Load(), nil },
			ClientAuth:     tls.RequireAnyClientCert,
			VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
				c, err := x509.ParseCertificate(raw[0])
				if err == nil {
					client.Store(c.SerialNumber.Int64())
				}
				return err
			},
		}
	})
	cfg := settings.Default[natsconn.Config]()
	cfg.NATSURL = []settings.URL{settings.URL(s.ClientURL())}
	cfg.NATSTLSCA, cfg.NATSTLSCert, cfg.NATSTLSKey = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	again := make(chan struct{}, 10)
	c, err := natsconn.Connect(t.Context(), cfg, "test", slog.New(slog.DiscardHandler), prometheus.NewRegistry(), func() { again <- struct{}{} })
	require.NoError(t, err)
	t.Cleanup(c.Close)
	require.Eventually(t, ready(c), waitTime, time.Millisecond)
	require.EqualValues(t, 11, client.Load())

	renew(20)
	s.Restart()
	<-again
	require.EqualValues(t, 21, client.Load())
}
