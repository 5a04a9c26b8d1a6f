// Package access decides who may connect, by address: which addresses are
// allowed at all, whose word about a client's address is believed, and how often
// one may come.
package access

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/time/rate"
)

// Control applies an edge's rules. Its methods may be called at any time.
type Control struct {
	allowed []netip.Prefix
	trusted []netip.Prefix
	rates   rates
}

// New returns the rules: clients are those in allowed, all if it is empty;
// proxies in trusted say for whom they connect; each address may connect
// perSecond times a second.
func New(allowed, trusted []netip.Prefix, perSecond int) *Control {
	return &Control{
		allowed: allowed, trusted: trusted,
		rates: rates{perSecond: perSecond, addresses: make(map[netip.Addr]*rate.Limiter)},
	}
}

// proxyHeaderTimeout is how long a trusted proxy may take to say for whom it
// connects; then it counts as one that says nothing.
const proxyHeaderTimeout = 10 * time.Second

// Listener returns l as one whose connections have the address that a trusted
// proxy says in a PROXY header (version 1 or 2), before TLS and HTTP. A proxy
// need not send one. From anybody else such a header is not looked for: it is no
// HTTP, and refused as that.
func (a *Control) Listener(l net.Listener) net.Listener {
	if len(a.trusted) == 0 {
		return l
	}
	return &proxyproto.Listener{
		Listener: l, ReadHeaderTimeout: proxyHeaderTimeout,
		ConnPolicy: func(peers proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			if contains(a.trusted, peerAddress(peers.Upstream.String())) {
				return proxyproto.USE, nil
			}
			return proxyproto.SKIP, nil
		},
	}
}

// Client returns the address of the daemon: that of the peer or, behind
// trusted proxies, the last one of X-Forwarded-For that no trusted proxy has.
// What stands before it was written by the client and may be invented.
func (a *Control) Client(r *http.Request) netip.Addr {
	addr := peerAddress(r.RemoteAddr)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && contains(a.trusted, addr); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap().WithZone("")
	}
	return addr
}

func peerAddress(remote string) netip.Addr {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// Permits reports whether an address may connect at all.
func (a *Control) Permits(addr netip.Addr) bool {
	return len(a.allowed) == 0 || contains(a.allowed, addr)
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Admits counts a connect, and reports whether the address may have another one
// now.
func (a *Control) Admits(addr netip.Addr, now time.Time) bool { return a.rates.allow(addr, now) }

const (
	// connectBurst times the rate may connect at once: a rack of daemons behind
	// one address comes back at the same moment.
	connectBurst = 10
	// maxAddresses bounds the addresses that are remembered.
	maxAddresses  = 100_000
	sweepInterval = time.Minute
)

// rates limits connects by address. It is safe for concurrent use.
type rates struct {
	perSecond int

	mu        sync.Mutex
	addresses map[netip.Addr]*rate.Limiter
	swept     time.Time
}

// allow counts a connect. Of IPv6 the network counts, since one machine has as
// many addresses as it likes.
func (r *rates) allow(addr netip.Addr, now time.Time) bool {
	if addr.Is6() {
		if network, err := addr.Prefix(64); err == nil {
			addr = network.Addr()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.swept) > sweepInterval || len(r.addresses) >= maxAddresses {
		r.sweepLocked(now)
	}
	l := r.addresses[addr]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(r.perSecond), r.perSecond*connectBurst)
		r.addresses[addr] = l
	}
	return l.AllowN(now, 1)
}

// sweepLocked forgets addresses that have not connected for so long that their
// whole burst is due to them again; mu is held. Where too many are left, it
// forgets all: the limit is for single addresses, not against a flood from
// everywhere.
func (r *rates) sweepLocked(now time.Time) {
	r.swept = now
	for addr, l := range r.addresses {
		if l.TokensAt(now) >= float64(l.Burst()) {
			delete(r.addresses, addr)
		}
	}
	if len(r.addresses) >= maxAddresses {
		clear(r.addresses)
	}
}
