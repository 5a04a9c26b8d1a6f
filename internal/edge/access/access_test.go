package access

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func TestTheClientsAddressBehindProxies(t *testing.T) {
	t.Parallel()
	a := New(nil, prefixes("10.0.0.0/8", "fd00::/8"), 1)
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
			require.Equal(t, test.want, a.Client(r).String())
		})
	}
}

func TestAllowedAddresses(t *testing.T) {
	t.Parallel()
	require.True(t, New(nil, nil, 1).Permits(netip.MustParseAddr("192.0.2.1")))
	a := New(prefixes("192.0.2.0/24"), nil, 1)
	require.True(t, a.Permits(netip.MustParseAddr("192.0.2.1")))
	require.False(t, a.Permits(netip.MustParseAddr("198.51.100.1")))
	require.False(t, a.Permits(netip.Addr{}))
}

func TestConnectRates(t *testing.T) {
	t.Parallel()
	a := New(nil, nil, 2)
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
