package access

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
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
	client, err := net.Dial("tcp", a.Addr().String())
	require.NoError(a.t, err)
	a.t.Cleanup(func() { _ = client.Close() })
	server, err := a.Accept()
	require.NoError(a.t, err)
	a.t.Cleanup(func() { _ = server.Close() })
	return server.(*Conn), client
}

func isClosed(conn net.Conn) bool {
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
