package access

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/rescue"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func TestMain(m *testing.M) { testserver.Main(m) }

// accepting is a listener with these rules, and what is dialed to it.
type accepting struct {
	*Control
	t *testing.T
	net.Listener
}

func accept(t *testing.T, change func(*Config)) *accepting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	a := control(t, 1, change)
	return &accepting{a, t, a.Listener(l)}
}

// dial returns both ends of a connection.
func (a *accepting) dial() (*Conn, net.Conn) {
	a.t.Helper()
	server, client := a.dialFrom("127.0.0.1")
	return server.(*Conn), client
}

// dialFrom is dial from an address of the loopback interface.
func (a *accepting) dialFrom(addr string) (server, client net.Conn) {
	a.t.Helper()
	from := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 0))}
	client, err := from.DialContext(a.t.Context(), "tcp", a.Addr().String())
	require.NoError(a.t, err)
	a.t.Cleanup(func() { _ = client.Close() })
	server, err = a.Accept()
	require.NoError(a.t, err)
	a.t.Cleanup(func() { _ = server.Close() })
	return server, client
}

func isClosed(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(testserver.Patience)) // it fails on one that is closed here
	_, err := conn.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func TestTheOneUsedLeastRecentlyMakesRoom(t *testing.T) {
	t.Parallel()
	a := accept(t, func(cfg *Config) { cfg.MaxUnauthenticated = 3 })
	authenticated, _ := a.dial()
	authenticated.Authenticated()
	first, _ := a.dial()
	_, second := a.dial()
	third, _ := a.dial()
	first.Used()
	require.Equal(t, 3, a.Waiting())
	a.dial()
	require.True(t, isClosed(second))
	require.NoError(t, third.Close())
	require.NoError(t, authenticated.Close())
	require.ErrorIs(t, first.Close(), nil)
	require.Equal(t, 1, a.Waiting())
}

// pair is both ends of a connection.
type pair struct{ server, client net.Conn }

// isOpen sends a byte through.
func (p pair) isOpen(t *testing.T) bool {
	t.Helper()
	if _, err := p.client.Write([]byte("x")); err != nil {
		return false
	}
	require.NoError(t, p.client.SetDeadline(time.Now().Add(testserver.Patience)))
	_, err := p.server.Read(make([]byte, 1))
	return err == nil
}

// Regression: who had one address could push all others out with connections on
// which nobody authenticates.
func TestAnAddressCostsNoOtherItsPlace(t *testing.T) {
	t.Parallel()
	a := accept(t, func(cfg *Config) { cfg.MaxUnauthenticated = 4 })
	from := func(addr string) pair {
		server, client := a.dialFrom(addr)
		return pair{server, client}
	}
	first, second := from("127.0.0.2"), from("127.0.0.3")
	var many []pair
	for range 20 {
		many = append(many, from("127.0.0.1"))
	}
	for _, p := range many[:18] {
		require.True(t, isClosed(p.client))
	}
	for _, p := range []pair{first, second, many[18], many[19]} {
		require.True(t, p.isOpen(t))
	}
	third := from("127.0.0.2")
	require.True(t, isClosed(first.client), "its network has as many as the other, and it was used least recently")
	for _, p := range []pair{second, third, many[18], many[19]} {
		require.True(t, p.isOpen(t))
	}
}

// Behind a proxy it is the client's address that counts, from the moment when the
// proxy says it.
func TestAnAddressBehindAProxyCostsNoOtherItsPlace(t *testing.T) {
	t.Parallel()
	a := accept(t, func(cfg *Config) {
		cfg.MaxUnauthenticated, cfg.TrustedProxies = 4, prefixes("127.0.0.0/8")
	})
	behind := func(addr string) pair {
		server, client := a.dialFrom("127.0.0.1")
		source := netip.AddrPortFrom(netip.MustParseAddr(addr), 1000)
		header := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(source), net.TCPAddrFromAddrPort(source))
		_, err := header.WriteTo(client)
		require.NoError(t, err)
		require.Equal(t, source.String(), server.RemoteAddr().String()) // this reads the header
		return pair{server, client}
	}
	many := []pair{behind("2001:db8::1"), behind("2001:db8::2")}
	others := []pair{behind("198.51.100.1"), behind("2001:db8:0:1::1")}
	for n := range 10 {
		many = append(many, behind(fmt.Sprintf("2001:db8::%d", n+3)))
	}
	others = append(others, behind("198.51.100.2"))
	for _, p := range many[:11] {
		require.True(t, isClosed(p.client))
	}
	for _, p := range append(others, many[11]) {
		require.True(t, p.isOpen(t))
	}
}

func TestWhatIsClosedCountsNoMore(t *testing.T) {
	t.Parallel()
	a := accept(t, func(*Config) {})
	one, _ := a.dial()
	two, _ := a.dial()
	require.Equal(t, map[netip.Addr]int{netip.MustParseAddr("127.0.0.1"): 2}, a.held)
	require.NoError(t, one.Close())
	require.ErrorIs(t, one.Close(), net.ErrClosed)
	require.True(t, one.Belongs(netip.MustParseAddr("192.0.2.1")))
	require.NoError(t, two.Close())
	require.Empty(t, a.held)
	require.Zero(t, a.Waiting())
}

func TestFilesOfRanges(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ranges")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	look := func(a *Control) error { return a.files[0].Look() }
	permits := func(a *Control, addr string) bool { return a.Permits(netip.MustParseAddr(addr)) }

	write("192.0.2.0/24\n\n# one address\n 198.51.100.7 \n2001:db8::/32\n")
	allowing := control(t, 1, func(cfg *Config) { cfg.AllowedCIDRsFile = file })
	denying := control(t, 1, func(cfg *Config) { cfg.DeniedCIDRsFile = file })
	for _, addr := range []string{"192.0.2.9", "198.51.100.7", "2001:db8::1"} {
		require.True(t, permits(allowing, addr), addr)
		require.False(t, permits(denying, addr), addr)
	}
	require.False(t, permits(allowing, "198.51.100.8"))

	write("192.0.2.0/24\nnonsense\n203.0.113.0/24\n")
	require.ErrorContains(t, look(allowing), "line 2")
	require.ErrorContains(t, look(denying), "line 2")
	require.False(t, permits(allowing, "198.51.100.7"), "what is not in the file any more is not allowed")
	require.False(t, permits(denying, "198.51.100.7"), "what a mistake may have hidden is still denied")
	require.True(t, permits(allowing, "203.0.113.1"))
	require.False(t, permits(denying, "203.0.113.1"))

	write("")
	require.NoError(t, look(allowing))
	require.NoError(t, look(denying))
	require.False(t, permits(allowing, "192.0.2.9"), "an empty list of those allowed means nobody")
	require.True(t, permits(denying, "192.0.2.9"))

	write("192.0.2.0/24\n")
	require.NoError(t, errors.Join(look(allowing), look(denying)))
	require.NoError(t, os.Remove(file))
	require.Error(t, look(allowing))
	require.Error(t, look(denying))
	require.True(t, permits(allowing, "192.0.2.9"), "a file that cannot be read changes nothing")
	require.False(t, permits(denying, "192.0.2.9"))
}

func TestAFileOfRangesThatCannotBeUsedIsReported(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ranges")
	require.NoError(t, os.WriteFile(file, []byte("10.0.0.0/8\n10.0.0.0/64\n"), 0o600))
	cfg := settings.Default[Config]()
	cfg.AllowedCIDRsFile, cfg.DeniedCIDRsFile = file, "/not/there"
	problems := map[string]string{}
	cfg.Check("INTAKE_", func(setting, problem string) { problems[setting] = problem })
	require.Len(t, problems, 2)
	require.Contains(t, problems["INTAKE_ALLOWED_CIDRS_FILE"], "line 2")
	require.Contains(t, problems["INTAKE_DENIED_CIDRS_FILE"], "no such file")
}

func TestWideRangesOfProxies(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"10.0.0.0/8": true, "10.1.0.0/16": false, "10.1.2.3/32": false, "0.0.0.0/0": true,
		"2001:db8::/32": true, "2001:db8:1::/48": false, "fd00::/8": true,
		"::ffff:10.0.0.0/104": true, "::ffff:10.1.0.0/112": false,
	} {
		require.Equal(t, want, wide(netip.MustParsePrefix(text)), text)
	}
}

func TestARefusedConnectionDoesNotDelayTheNext(t *testing.T) {
	t.Parallel()
	a := accept(t, func(cfg *Config) { cfg.MaxConnectionsPerIP = 1 })
	kept, _ := a.dial()
	var refused []net.Conn
	for range 10 {
		conn, err := net.Dial("tcp", a.Addr().String())
		require.NoError(t, err) // nobody accepts yet
		defer func() { _ = conn.Close() }()
		refused = append(refused, conn)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		if conn, err := a.Accept(); err == nil {
			accepted <- conn
		}
	}()
	for _, conn := range refused {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(testserver.Patience)))
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err)
		require.False(t, os.IsTimeout(err))
	}
	require.NoError(t, kept.Close())
	conn, err := net.Dial("tcp", a.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, (<-accepted).Close())
}

func TestAHandlerThatPanicsLosesItsConnectionAlone(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	reg := prometheus.NewRegistry()
	logger := slog.New(slog.NewTextHandler(&text, nil))
	server := NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("in a handler")
		case "/abort":
			panic(http.ErrAbortHandler)
		}
	}), time.Minute, time.Minute, rescue.New(logger, reg, PartRequest), logger, slog.LevelError)
	front := httptest.NewUnstartedServer(nil)
	front.Config = server
	front.Start()
	// On a connection that was used before, the client would try again.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, works := range map[string]bool{"/panic": false, "/abort": false, "/": true} {
		response, err := client.Get(front.URL + path)
		require.Equal(t, works, err == nil, path)
		if err == nil {
			require.NoError(t, response.Body.Close())
		}
	}
	front.Close()
	require.Equal(t, 1, strings.Count(text.String(), "level=ERROR"))
	require.Contains(t, text.String(), `panic="in a handler"`)
	require.Contains(t, text.String(), "path=/panic")
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP gateway_panics_total Panics in what was done for one client: its connection or request was ended, and a mistake in the program is to be mended.
# TYPE gateway_panics_total counter
gateway_panics_total{part="request"} 1
`), "gateway_panics_total"))
}
