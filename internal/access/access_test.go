package access

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/settings"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// control returns the rules of a configuration that differs from the default.
func control(t testing.TB, perSecond int, change func(*Config)) *Control {
	t.Helper()
	cfg := settings.Default[Config]()
	change(&cfg)
	a, err := New(cfg, "", perSecond, func(Refusal, netip.Addr) {}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	return a
}

// Reports: goauthentik/authentik#25679, rack/rack#1227, akka/akka-http#3790,
// firezone/firezone#12270.
func TestTheClientsAddressBehindProxies(t *testing.T) {
	t.Parallel()
	behind := func(hops int) *Control {
		return control(t, 1, func(cfg *Config) {
			cfg.TrustedProxies, cfg.TrustedProxyHops = prefixes("10.0.0.0/8", "fd00::/8"), hops
		})
	}
	one, two := behind(1), behind(2)
	tests := map[string]struct {
		a         *Control
		remote    string
		forwarded []string
		want      string
	}{
		"direct":                       {one, "192.0.2.1:5", nil, "192.0.2.1"},
		"direct, header invented":      {one, "192.0.2.1:5", []string{"198.51.100.7"}, "192.0.2.1"},
		"one proxy":                    {one, "10.0.0.1:5", []string{"198.51.100.7"}, "198.51.100.7"},
		"two proxies":                  {two, "10.0.0.1:5", []string{"198.51.100.7, 10.0.0.2"}, "198.51.100.7"},
		"invented before the true":     {two, "10.0.0.1:5", []string{"127.0.0.1, 198.51.100.7"}, "198.51.100.7"},
		"invented by one of the range": {one, "10.0.0.1:5", []string{"198.51.100.7, 10.1.2.3"}, "10.1.2.3"},
		"the same behind two":          {two, "10.0.0.1:5", []string{"198.51.100.7, 10.1.2.3, 10.0.0.2"}, "10.1.2.3"},
		"several headers":              {two, "10.0.0.1:5", []string{"1.2.3.4", "198.51.100.7", "10.0.0.2"}, "198.51.100.7"},
		"proxy without header":         {one, "10.0.0.1:5", nil, "10.0.0.1"},
		"rubbish in the header":        {one, "10.0.0.1:5", []string{"unknown"}, "10.0.0.1"},
		"IPv4 in IPv6":                 {one, "[::ffff:10.0.0.1]:5", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		"IPv6":                         {one, "[fd00::1]:5", []string{"2001:db8::1"}, "2001:db8::1"},
		"IPv6 in brackets":             {one, "[fd00::1]:5", []string{"[2001:db8::1]"}, "2001:db8::1"},
		"IPv6 with a port":             {two, "[fd00::1]:5", []string{"[2001:db8::1]:443, [fd00::2]:80"}, "2001:db8::1"},
		"IPv4 with a port":             {one, "10.0.0.1:5", []string{"198.51.100.7:61234"}, "198.51.100.7"},
		"rubbish with a port":          {one, "10.0.0.1:5", []string{"198.51.100:61234"}, "10.0.0.1"},
		"everything trusted in line":   {two, "10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = test.remote
			for _, value := range test.forwarded {
				r.Header.Add("X-Forwarded-For", value)
			}
			require.Equal(t, test.want, test.a.Client(r).String())
		})
	}
}

func TestAllowedAddresses(t *testing.T) {
	t.Parallel()
	require.True(t, control(t, 1, func(*Config) {}).Permits(netip.MustParseAddr("192.0.2.1")))
	a := control(t, 1, func(cfg *Config) {
		cfg.AllowedCIDRs, cfg.DeniedCIDRs = prefixes("192.0.2.0/24"), prefixes("192.0.2.66/32")
	})
	require.False(t, a.Permits(netip.MustParseAddr("192.0.2.66")), "denied, though allowed")
	require.True(t, a.Permits(netip.MustParseAddr("192.0.2.1")))
	require.False(t, a.Permits(netip.MustParseAddr("198.51.100.1")))
	require.False(t, a.Permits(netip.Addr{}))
}

func TestConnectRates(t *testing.T) {
	t.Parallel()
	a := control(t, 2, func(*Config) {})
	now := time.Now()
	connects := func(addr string) (n int) {
		for a.Admits(netip.MustParseAddr(addr), now) {
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

func TestARangeOfIPv4WrittenAsIPv6IsTheSameRange(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr("10.1.2.3")
	a := control(t, 1, func(cfg *Config) { cfg.DeniedCIDRs = prefixes("::ffff:10.0.0.0/104") })
	require.False(t, a.Permits(addr))
	a = control(t, 1, func(cfg *Config) { cfg.AllowedCIDRs = prefixes("::ffff:10.0.0.0/104") })
	require.True(t, a.Permits(addr))
	list, err := parseRanges([]byte("::ffff:10.0.0.0/104"))
	require.NoError(t, err)
	require.Equal(t, prefixes("10.0.0.0/8"), list)
}

// Load balancers use connections for one client after the other.
func TestAProxiedConnectionCountsForWhomItServesNow(t *testing.T) {
	t.Parallel()
	a := control(t, 1, func(cfg *Config) { cfg.MaxConnectionsPerIP = 1 })
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	c := &Conn{control: a, proxied: true}
	require.True(t, c.Belongs(one))
	require.True(t, c.Belongs(two))
	require.False(t, (&Conn{control: a, proxied: true}).Belongs(two))
	require.True(t, (&Conn{control: a, proxied: true}).Belongs(one))
}

func TestAnAddressThatIsNotKnownIsCountedNoLongerThanItsConnection(t *testing.T) {
	t.Parallel()
	a := control(t, 1, func(cfg *Config) { cfg.MaxConnectionsPerIP = 1 })
	for range 3 {
		c := &Conn{TCPConn: &net.TCPConn{}, control: a, proxied: true}
		require.True(t, c.Belongs(netip.Addr{}))
		_ = c.Close() // there is no socket
	}
	require.Empty(t, a.held)
}
