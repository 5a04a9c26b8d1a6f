package edge

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
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

func TestTheClientsAddressBehindProxies(t *testing.T) {
	t.Parallel()
	a := newAccess(ListenConfig{TrustedProxies: prefixes("10.0.0.0/8", "fd00::/8")})
	tests := map[string]struct {
		remote    string
		forwarded []string
		want      string
	}{
		"direct":                     {"192.0.2.1:5", nil, "192.0.2.1"},
		"direct, header invented":    {"192.0.2.1:5", []string{"198.51.100.7"}, "192.0.2.1"},
		"one proxy":                  {"10.0.0.1:5", []string{"198.51.100.7"}, "198.51.100.7"},
		"two proxies":                {"10.0.0.1:5", []string{"198.51.100.7, 10.0.0.2"}, "198.51.100.7"},
		"invented before the true":   {"10.0.0.1:5", []string{"127.0.0.1, 198.51.100.7"}, "198.51.100.7"},
		"several headers":            {"10.0.0.1:5", []string{"1.2.3.4", "198.51.100.7", "10.0.0.2"}, "198.51.100.7"},
		"proxy without header":       {"10.0.0.1:5", nil, "10.0.0.1"},
		"rubbish in the header":      {"10.0.0.1:5", []string{"unknown"}, "10.0.0.1"},
		"IPv4 in IPv6":               {"[::ffff:10.0.0.1]:5", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		"IPv6":                       {"[fd00::1]:5", []string{"2001:db8::1"}, "2001:db8::1"},
		"everything trusted in line": {"10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = test.remote
			for _, value := range test.forwarded {
				r.Header.Add("X-Forwarded-For", value)
			}
			require.Equal(t, test.want, a.client(r).String())
		})
	}
}

func TestAllowedAddresses(t *testing.T) {
	t.Parallel()
	require.True(t, newAccess(ListenConfig{}).permits(netip.MustParseAddr("192.0.2.1")))
	a := newAccess(ListenConfig{AllowedCIDRs: prefixes("192.0.2.0/24")})
	require.True(t, a.permits(netip.MustParseAddr("192.0.2.1")))
	require.False(t, a.permits(netip.MustParseAddr("198.51.100.1")))
	require.False(t, a.permits(netip.Addr{}))
}

func TestForbiddenAddressesAreToldSo(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(cfg *Config) {
		cfg.Listen.AllowedCIDRs = prefixes("192.0.2.0/24")
		cfg.Listen.TrustedProxies = prefixes("127.0.0.0/8")
	})
	_, res, err := websocket.Dial(t.Context(), n.url(), nil)
	require.Error(t, err)
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	conn, _, err := websocket.Dial(t.Context(), n.url(), &websocket.DialOptions{HTTPHeader: http.Header{"X-Forwarded-For": {"192.0.2.9"}}})
	require.NoError(t, err)
	require.NoError(t, conn.CloseNow())
}

func TestConnectRates(t *testing.T) {
	t.Parallel()
	a := newAccess(ListenConfig{RateConnectsPerIP: 2})
	now := time.Now()
	connects := func(addr string) (n int) {
		for a.rates.allow(netip.MustParseAddr(addr), now) {
			n++
		}
		return n
	}
	require.Equal(t, 20, connects("192.0.2.1"))
	require.Equal(t, 20, connects("192.0.2.2"))
	require.Equal(t, 20, connects("2001:db8::1"))
	require.Equal(t, 0, connects("2001:db8::2"), "one /64 is one client")
	now = now.Add(time.Second)
	require.Equal(t, 2, connects("192.0.2.1"))
	now = now.Add(time.Hour)
	require.Equal(t, 20, connects("192.0.2.1"))
	require.Len(t, a.rates.addresses, 1, "addresses that may do all again are forgotten")
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
	n := newCluster(t).edge(func(cfg *Config) { cfg.Listen.TLSCertFile, cfg.Listen.TLSKeyFile = certFile, keyFile })
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
	require.NoError(t, os.WriteFile(certFile, []byte("half written"), 0o600))
	renewed := issue(t, certFile, keyFile, 2)
	require.Eventually(t, func() bool { return dial(renewed) == nil }, testserver.Patience, 50*time.Millisecond)
}
