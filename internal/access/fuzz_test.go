package access

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
)

// The address of a client is the peer's, or one of those that the trusted
// proxies have written, which are the last ones: whatever stands before them,
// the client may have invented.
func FuzzForwardedAddresses(f *testing.F) {
	var controls [3]*Control
	for i := range controls {
		controls[i] = control(f, 1, func(cfg *Config) {
			cfg.TrustedProxies, cfg.TrustedProxyHops = prefixes("10.0.0.0/8", "fd00::/8"), i+1
		})
	}
	f.Add("10.0.0.1:5", "198.51.100.7", uint8(1))
	f.Add("10.0.0.1:5", "127.0.0.1, 198.51.100.7, 10.0.0.2", uint8(2))
	f.Add("[fd00::1]:5", "[2001:db8::1]:443, [fd00::2]:80", uint8(2))
	f.Add("[fd00::1%eth0]:5", "::ffff:198.51.100.7, fe80::1%eth0", uint8(3))
	f.Add("192.0.2.1:5", "unknown,,, \"", uint8(1))
	f.Fuzz(func(t *testing.T, remote, forwarded string, hops uint8) {
		a := controls[int(hops)%len(controls)]
		client := func(values ...string) netip.Addr {
			return a.Client(&http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": values}})
		}
		peer := a.Client(&http.Request{RemoteAddr: remote})
		got := client(forwarded)
		require.False(t, got.Is4In6(), "one form of each address")
		require.Empty(t, got.Zone())
		if !a.trusts(peer) {
			require.Equal(t, peer, got)
			return
		}
		elements := strings.Split(forwarded, ",")
		believed := elements[max(0, len(elements)-a.cfg.TrustedProxyHops):]
		candidates := []netip.Addr{peer}
		for _, text := range believed {
			if addr, ok := parseHop(text); ok {
				candidates = append(candidates, addr)
			}
		}
		require.Contains(t, candidates, got)
		// Headers are one after the other what one header is with commas.
		require.Equal(t, got, client(elements...))
		if len(elements) >= a.cfg.TrustedProxyHops {
			require.Equal(t, got, client("203.0.113.66", forwarded), "what is invented before changes nothing")
		}
		require.Equal(t, netip.MustParseAddr("203.0.113.1"), client(forwarded, "203.0.113.1"), "the last proxy is believed first")
	})
}

// Of a file of ranges each line counts by itself.
func FuzzRanges(f *testing.F) {
	f.Add([]byte("192.0.2.0/24\n\n# one address\n 198.51.100.7 \r\n2001:db8::/32\n"))
	f.Add([]byte("::ffff:10.0.0.0/104\nfe80::1%eth0\n10.0.0.0/64\nnonsense"))
	f.Fuzz(func(t *testing.T, content []byte) {
		list, err := parseRanges(content)
		quotetest.RequireLittle(t, content, err)
		lines := strings.Split(string(content), "\n")
		require.LessOrEqual(t, len(list), len(lines))
		for _, p := range list {
			require.True(t, p.IsValid())
			require.False(t, p.Addr().Is4In6() && p.Bits() >= 96, "in the form in which addresses are compared")
			again, err := parseRange(p.String())
			require.NoError(t, err)
			require.Equal(t, p, again)
		}
		if err != nil {
			return
		}
		for _, line := range lines {
			single, err := parseRanges([]byte(line))
			require.NoError(t, err, "a line of a good file")
			require.LessOrEqual(t, len(single), min(1, len(list)))
			require.True(t, slices.Equal(single, list[:len(single)]))
			list = list[len(single):]
		}
		require.Empty(t, list)
	})
}

// Of a file of origins nobody is let in by what cannot be read of it.
func FuzzOrigins(f *testing.F) {
	f.Add([]byte("one 192.0.2.0/24 2001:db8::/32\n\n# nobody\none 198.51.100.7\r\nnowhere\n"))
	f.Add([]byte("_canary_1 10.0.0.0/8\none, ::ffff:10.0.0.0/104,nonsense"))
	f.Fuzz(func(t *testing.T, content []byte) {
		list, err := parseOrigins(content)
		quotetest.RequireLittle(t, content, err)
		fields := strings.Fields(string(content))
		for id, ranges := range list {
			require.NoError(t, id.Validate())
			require.False(t, id.Reserved())
			require.Contains(t, fields, string(id))
			require.Less(t, len(ranges), len(fields))
			for _, p := range ranges {
				again, err := parseRange(p.String())
				require.NoError(t, err)
				require.Equal(t, p, again)
			}
		}
	})
}
