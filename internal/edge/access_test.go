package edge

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// useUpConnects connects from the address of the tests as often as it may.
func (n *node) useUpConnects() {
	for n.door.access.Admits(netip.MustParseAddr("127.0.0.1"), time.Now()) {
	}
}

func TestForbiddenAddressesAreToldSo(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(cfg *Config) {
		cfg.Listen.Access.AllowedCIDRs = prefixes("192.0.2.0/24")
		cfg.Listen.Access.TrustedProxies = prefixes("127.0.0.0/8")
	})
	_, res, err := websocket.Dial(t.Context(), n.url(), nil)
	require.Error(t, err)
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	conn, _, err := websocket.Dial(t.Context(), n.url(), &websocket.DialOptions{HTTPHeader: http.Header{"X-Forwarded-For": {"192.0.2.9"}}})
	require.NoError(t, err)
	require.NoError(t, conn.CloseNow())
}

// issue writes a certificate of its own for 127.0.0.1 and returns a pool that
// trusts it.
func issue(t *testing.T, certFile, keyFile string, serial int64) *x509.CertPool {
	t.Helper()
	c := testserver.NewCertificate(t, serial)
	require.NoError(t, os.WriteFile(certFile, c.Certificate, 0o600))
	require.NoError(t, os.WriteFile(keyFile, c.Key, 0o600))
	return c.Pool
}

func TestTLSCertificatesAreReadAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	pool := issue(t, certFile, keyFile, 1)
	n := newCluster(t).edge(func(cfg *Config) { cfg.Listen.TLS.TLSCertFile, cfg.Listen.TLS.TLSKeyFile = certFile, keyFile })
	dial := func(pool *x509.CertPool) error {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		defer transport.CloseIdleConnections()
		conn, _, err := websocket.Dial(t.Context(), "wss://"+n.Addr().String()+protocol.Path, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
		if err != nil {
			return err
		}
		return conn.Close(websocket.StatusNormalClosure, "")
	}
	require.NoError(t, dial(pool))
	_, err := tls.Dial("tcp", n.Addr().String(), &tls.Config{
		RootCAs: pool, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA},
	})
	require.Error(t, err, "what is encrypted must be authenticated with it")
	require.NoError(t, os.WriteFile(certFile, []byte("half written"), 0o600))
	renewed := issue(t, certFile, keyFile, 2)
	require.Eventually(t, func() bool { return dial(renewed) == nil }, testserver.Patience, 50*time.Millisecond)
}
