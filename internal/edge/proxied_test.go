package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/coder/websocket"
	"github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// proxyHeader says that a proxy connects for a daemon at 192.0.2.9.
func proxyHeader(t *testing.T, version byte) []byte {
	t.Helper()
	source, destination := &net.TCPAddr{IP: net.ParseIP("192.0.2.9"), Port: 1000}, &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 80}
	header, err := proxyproto.HeaderProxyFromAddrs(version, source, destination).Format()
	require.NoError(t, err)
	return header
}

// status asks for the WebSocket's path over a connection that begins so, and
// returns the status of the answer: 426 if the address is allowed, else 403.
func (n *node) status(start []byte, secure func(net.Conn) net.Conn, headers string) int {
	n.t.Helper()
	raw, err := net.Dial("tcp", n.Addr().String())
	require.NoError(n.t, err)
	defer func() { _ = raw.Close() }()
	_, err = raw.Write(start)
	require.NoError(n.t, err)
	conn := secure(raw)
	_, err = io.WriteString(conn, "GET "+protocol.Path+" HTTP/1.1\r\nHost: x\r\n"+headers+"\r\n")
	require.NoError(n.t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(n.t, err)
	require.NoError(n.t, res.Body.Close())
	return res.StatusCode
}

func plain(c net.Conn) net.Conn { return c }

func TestATrustedProxySaysForWhomItConnects(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(cfg *Config) {
		cfg.Listen.Access.AllowedCIDRs = prefixes("192.0.2.0/24")
		cfg.Listen.Access.TrustedProxies = prefixes("127.0.0.0/8")
	})
	for _, version := range []byte{1, 2} {
		require.Equal(t, http.StatusUpgradeRequired, n.status(proxyHeader(t, version), plain, ""), version)
		require.Equal(t, http.StatusUpgradeRequired, n.status(proxyHeader(t, version), plain, "X-Forwarded-For: 198.51.100.7\r\n"),
			"what the daemon says of itself is not believed")
	}
	require.Equal(t, http.StatusForbidden, n.status(nil, plain, ""), "the header is optional")
	require.Equal(t, http.StatusUpgradeRequired, n.status(nil, plain, "X-Forwarded-For: 192.0.2.9\r\n"))
}

func TestADaemonConnectsThroughATrustedProxy(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) {
		cfg.Listen.Access.AllowedCIDRs = prefixes("192.0.2.0/24")
		cfg.Listen.Access.TrustedProxies = prefixes("127.0.0.0/8")
	})
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			_, err = conn.Write(proxyHeader(t, 2))
		}
		return conn, err
	}}
	conn, _, err := websocket.Dial(t.Context(), n.url(), &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	d := &client{t: t, conn: conn}
	d.send("auth", authPayload(t, "orch", "d"))
	d.expect(protocol.TypeAuthSuccess)
	d.send("subscribe", `{"eventTypes":["*"]}`)
	d.expect(protocol.TypeSubscribed)
	e := c.publish("orch")
	c.forward(n, e, 0)
	d.expectEvents(e)
	require.Equal(t, "192.0.2.9", n.door.connections()[0].addr.String())
}

func TestOnlyTrustedProxiesSayForWhomTheyConnect(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for name, trusted := range map[string][]string{"none": nil, "others": {"10.0.0.0/8"}} {
		n := c.edge(func(cfg *Config) { cfg.Listen.Access.TrustedProxies = prefixes(trusted...) })
		for _, version := range []byte{1, 2} {
			require.Equal(t, http.StatusBadRequest, n.status(proxyHeader(t, version), plain, ""), "%s: version %d", name, version)
		}
		require.Equal(t, http.StatusUpgradeRequired, n.status(nil, plain, ""), name)
	}
}

func TestAProxyHeaderStandsBeforeTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	pool := issue(t, certFile, keyFile, 1)
	n := newCluster(t).edge(func(cfg *Config) {
		cfg.Listen.TLS.TLSCertFile, cfg.Listen.TLS.TLSKeyFile = certFile, keyFile
		cfg.Listen.Access.AllowedCIDRs = prefixes("192.0.2.0/24")
		cfg.Listen.Access.TrustedProxies = prefixes("127.0.0.1/32")
	})
	secure := func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}) }
	require.Equal(t, http.StatusUpgradeRequired, n.status(proxyHeader(t, 2), secure, ""))
	require.Equal(t, http.StatusForbidden, n.status(nil, secure, ""))
}
