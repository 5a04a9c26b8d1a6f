package edge

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

// access decides who may connect, by address.
type access struct {
	allowed []netip.Prefix
	trusted []netip.Prefix
	rates   connectRates
}

func newAccess(cfg ListenConfig) *access {
	return &access{
		allowed: cfg.AllowedCIDRs, trusted: cfg.TrustedProxies,
		rates: connectRates{perSecond: cfg.RateConnectsPerIP, addresses: make(map[netip.Addr]*rate.Limiter)},
	}
}

// proxyHeaderTimeout is how long a trusted proxy may take to say for whom it
// connects; then it counts as one that says nothing.
const proxyHeaderTimeout = 10 * time.Second

// listener returns l as one whose connections have the address that a trusted
// proxy says in a PROXY header (version 1 or 2), before TLS and HTTP. A proxy
// need not send one. From anybody else such a header is not looked for: it is no
// HTTP, and refused as that.
func (a *access) listener(l net.Listener) net.Listener {
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

// client returns the address of the daemon: that of the peer or, behind
// trusted proxies, the last one of X-Forwarded-For that no trusted proxy has.
// What stands before it was written by the client and may be invented.
func (a *access) client(r *http.Request) netip.Addr {
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

func (a *access) permits(addr netip.Addr) bool {
	return len(a.allowed) == 0 || contains(a.allowed, addr)
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

const (
	// connectBurst times the rate may connect at once: a rack of daemons behind
	// one address comes back at the same moment.
	connectBurst = 10
	// maxAddresses bounds the addresses that are remembered.
	maxAddresses  = 100_000
	sweepInterval = time.Minute
)

// connectRates limits connects by address. It is safe for concurrent use.
type connectRates struct {
	perSecond int

	mu        sync.Mutex
	addresses map[netip.Addr]*rate.Limiter
	swept     time.Time
}

// allow counts a connect. Of IPv6 the network counts, since one machine has as
// many addresses as it likes.
func (r *connectRates) allow(addr netip.Addr, now time.Time) bool {
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

// sweepLocked forgets addresses that have not connected for so long that they
// may do all again; mu is held. Where too many are left, it forgets all: the
// limit is for single addresses, not against a flood from everywhere.
func (r *connectRates) sweepLocked(now time.Time) {
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
