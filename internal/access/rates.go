package access

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

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

func newRates(perSecond int) rates {
	return rates{perSecond: perSecond, addresses: make(map[netip.Addr]*rate.Limiter)}
}

// allow counts a connect.
func (r *rates) allow(addr netip.Addr, now time.Time) bool {
	addr = Network(addr)
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
