package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/edge/httpevents"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// knock connects and says what it is told to, which may be nothing.
func (n *node) knock(what string) net.Conn {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.Addr().String())
	require.NoError(n.t, err)
	n.t.Cleanup(func() { _ = conn.Close() })
	require.NoError(n.t, conn.SetDeadline(time.Now().Add(testserver.Patience)))
	_, err = io.WriteString(conn, what)
	require.NoError(n.t, err)
	return conn
}

// closed reports whether the edge has closed a connection that it has said
// nothing on.
func closed(conn net.Conn) bool {
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !os.IsTimeout(err)
}

// refuses reports whether the edge closes a new connection that says nothing.
func (n *node) refuses() bool {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.Addr().String())
	if err != nil {
		return true // closed as fast
	}
	defer func() { _ = conn.Close() }()
	require.NoError(n.t, conn.SetDeadline(time.Now().Add(testserver.Patience)))
	return closed(conn)
}

func request(method, path, headers string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: gateway\r\n" + headers + "\r\n"
}

// Each of these was held for ever, and counted nowhere.
func TestABodyThatNobodyAskedForIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	forbidding := c.edge(func(cfg *Config) {
		cfg.Listen.Access.AllowedCIDRs = prefixes("192.0.2.0/24")
		cfg.Listen.Access.TrustedProxies = prefixes("127.0.0.0/8")
	})
	for _, test := range []struct {
		n            *node
		method, path string
		status       int
	}{
		{n, "GET", protocol.Path, http.StatusUpgradeRequired},
		{n, "POST", protocol.PathAlias, http.StatusUpgradeRequired},
		{n, "GET", httpevents.Path, http.StatusUnauthorized},
		{n, "DELETE", httpevents.Path, http.StatusUnauthorized},
		{n, "POST", httpevents.Path, http.StatusMethodNotAllowed},
		{n, "GET", "/", http.StatusNotFound},
		{forbidding, "GET", protocol.Path, http.StatusForbidden},
		{forbidding, "DELETE", httpevents.Path, http.StatusForbidden},
	} {
		for _, declared := range []string{"Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"} {
			name := fmt.Sprint(test.method, " ", test.path, " ", declared)
			conn := test.n.knock(request(test.method, test.path, declared))
			var text strings.Builder
			in := bufio.NewReader(io.TeeReader(conn, &text))
			res, err := http.ReadResponse(in, nil)
			require.NoError(t, err, name)
			require.Equal(t, test.status, res.StatusCode, name)
			if test.status == http.StatusUpgradeRequired {
				// After a wait for the body net/http would have said only the first.
				require.Contains(t, text.String(), "Connection: close\r\nConnection: Upgrade\r\n", name)
			}
			_, err = io.Copy(io.Discard, res.Body)
			require.NoError(t, err, name)
			_, err = in.ReadByte()
			require.ErrorIs(t, err, io.EOF, "%s: the connection is closed", name)
		}
	}
}

func TestAConnectionOutlivesTheBodiesThatAreTaken(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	bearer := "Authorization: Bearer " + token(t, auth.Grant{Orchestrator: "orch", Daemon: "d"}) + "\r\n"
	conn := n.knock("")
	in := bufio.NewReader(conn)
	for range 2 {
		_, err := io.WriteString(conn, request("DELETE", httpevents.Path, bearer+"Content-Length: 18\r\n")+`{"eventIds":["a"]}`)
		require.NoError(t, err)
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
	}
}

func TestWhoMayNotConnectIsClosedBeforeAnythingIsRead(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for name, change := range map[string]func(*Config){
		"not allowed": func(cfg *Config) { cfg.Listen.Access.AllowedCIDRs = prefixes("192.0.2.0/24") },
		"denied":      func(cfg *Config) { cfg.Listen.Access.DeniedCIDRs = prefixes("127.0.0.1/32") },
	} {
		n := c.edge(change)
		require.True(t, n.refuses(), name)
		n.eventuallyMetric(`gateway_edge_connects_refused_total{reason="address"}`, "1")
	}
}

func TestAnAddressHasOnlySoManyConnections(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Listen.Access.MaxConnectionsPerIP = 2 })
	first := n.knock("")
	d := n.login("orch", "d")
	require.True(t, n.refuses())
	n.eventuallyMetric(`gateway_edge_connects_refused_total{reason="connections"}`, "1")
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool {
		conn, _, err := websocket.Dial(t.Context(), n.url(), nil)
		if err == nil {
			_ = conn.CloseNow()
		}
		return err == nil
	}, testserver.Patience, time.Millisecond)
	d.send("heartbeat", `{}`)
	d.expect(protocol.TypeHeartbeatAck)
}

// Of those behind a load balancer each counts for itself.
func TestAnAddressBehindAProxyHasOnlySoManyConnections(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(cfg *Config) {
		cfg.Listen.Access.MaxConnectionsPerIP = 2
		cfg.Listen.Access.TrustedProxies = prefixes("127.0.0.0/8")
	})
	from := func(address string) int {
		conn, res, err := websocket.Dial(t.Context(), n.url(), &websocket.DialOptions{HTTPHeader: http.Header{"X-Forwarded-For": {address}}})
		if err == nil {
			t.Cleanup(func() { _ = conn.CloseNow() })
		}
		require.NotNil(t, res)
		return res.StatusCode
	}
	for _, want := range []int{http.StatusSwitchingProtocols, http.StatusSwitchingProtocols, http.StatusTooManyRequests} {
		require.Equal(t, want, from("192.0.2.9"))
	}
	require.Equal(t, http.StatusSwitchingProtocols, from("192.0.2.10"))
}

// Regression: requests by HTTP did not count.
func TestRequestsFromBehindAProxyCountForTheirAddress(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(cfg *Config) {
		cfg.Listen.Access.MaxConnectionsPerIP = 1
		cfg.Listen.Access.TrustedProxies = prefixes("127.0.0.0/8")
	})
	conn, _, err := websocket.Dial(t.Context(), n.url(), &websocket.DialOptions{HTTPHeader: http.Header{"X-Forwarded-For": {"192.0.2.9"}}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	from := func(address string) int {
		return n.request(http.MethodGet, "", "", as(t, "orch", "daemon"), func(r *http.Request) { r.Header.Set("X-Forwarded-For", address) }).status
	}
	require.Equal(t, http.StatusTooManyRequests, from("192.0.2.9"))
	require.Equal(t, http.StatusOK, from("192.0.2.10"))
}

// An edge of 300 was full with 310 sockets of nobody.
func TestWhoNeverAuthenticatesKeepsNoDaemonOut(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(cfg *Config) {
		cfg.Listen.MaxConnections = 3
		cfg.Listen.Access.MaxUnauthenticated = 4
	})
	first := n.login("orch", "first")
	var idle []net.Conn
	for range 5 {
		idle = append(idle, n.knock(""), n.knock("GET "), n.silent())
	}
	require.True(t, closed(idle[0]), "the oldest goes first")
	second := n.login("orch", "second")
	for range 5 {
		n.silent()
	}
	for _, d := range []*client{first, second} {
		d.send("heartbeat", `{}`)
		d.expect(protocol.TypeHeartbeatAck)
	}
	require.LessOrEqual(t, n.door.access.Waiting(), 4)
	require.NotEqual(t, "0", n.metric(`gateway_edge_connects_refused_total{reason="unauthenticated"}`))
}

// Who asks by HTTP keeps the connection, however many others come from that address.
func TestAConnectionThatIsUsedIsNotTheOneThatMakesRoom(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(func(cfg *Config) { cfg.Listen.Access.MaxUnauthenticated = 2 })
	bearer := "Authorization: Bearer " + token(t, auth.Grant{Orchestrator: "orch", Daemon: "d"}) + "\r\n"
	used := n.knock("")
	in := bufio.NewReader(used)
	ask := func() {
		_, err := io.WriteString(used, request("GET", httpevents.Path, bearer))
		require.NoError(t, err)
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
	}
	ask()
	idle := n.knock("")
	require.Eventually(t, func() bool { return n.door.access.Waiting() == 2 }, testserver.Patience, time.Millisecond)
	ask()
	n.knock("")
	require.True(t, closed(idle))
	ask()
}

func TestListsOfAddressesAreReadAgain(t *testing.T) {
	t.Parallel()
	denied := filepath.Join(t.TempDir(), "denied")
	require.NoError(t, os.WriteFile(denied, []byte("# nobody yet\n"), 0o600))
	n := newCluster(t).edge(func(cfg *Config) { cfg.Listen.Access.DeniedCIDRsFile = denied })
	d := n.login("orch", "d")
	require.NoError(t, os.WriteFile(denied, []byte("127.0.0.0/8\n"), 0o600))
	d.expectClose(protocol.CloseSessionTerminated)
	require.True(t, n.refuses())
	require.NoError(t, os.WriteFile(denied, nil, 0o600))
	require.Eventually(t, func() bool {
		conn, _, err := websocket.Dial(t.Context(), n.url(), nil)
		if err == nil {
			_ = conn.CloseNow()
		}
		return err == nil
	}, testserver.Patience, 10*time.Millisecond)
}
