package access

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Client returns the address of the client: that of the peer or, behind trusted
// proxies, the last one of X-Forwarded-For that no trusted proxy has, as far
// from the end as there are proxies. What stands before it was written by the
// client and may be invented.
func (a *Control) Client(r *http.Request) netip.Addr {
	addr := peerAddress(r.RemoteAddr)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for n := 1; n <= min(a.cfg.TrustedProxyHops, len(hops)) && a.trusts(addr); n++ {
		hop, ok := parseHop(hops[len(hops)-n])
		if !ok {
			break
		}
		addr = hop
	}
	return addr
}

// parseHop reads an element of X-Forwarded-For: an address, which some proxies
// put into brackets if it is of IPv6, or write a port behind.
func parseHop(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return plain(withPort.Addr()), true
	}
	if bare, bracketed := strings.CutPrefix(text, "["); bracketed {
		text = strings.TrimSuffix(bare, "]")
	}
	addr, err := netip.ParseAddr(text)
	return plain(addr), err == nil
}

// plain is an address in the one form in which it is compared.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

func peerAddress(remote string) netip.Addr {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return plain(addr)
}
