package socket

import "time"

// rate is how much may pass: perSecond in the long run, and burst at once.
type rate struct{ perSecond, burst float64 }

// What a daemon has to say is small: a peer is read at two of the largest
// messages a second in the long run, and sixteen at once. A flood then costs
// the edge little more than a quiet connection, and the peer waits.
func (c Config) readRate() rate {
	return rate{perSecond: 2 * float64(c.MaxMessageBytes), burst: 16 * float64(c.MaxMessageBytes)}
}

// pingRate bounds pings, each of which costs a pong: some hundred times as many
// as anybody needs.
var pingRate = rate{perSecond: 5, burst: 50}

// maxRead bounds a read, and with it how long the reader waits after one.
const maxRead = 8 << 10

// pace says how long to wait for a rate to be kept. The zero value has let
// nothing pass yet. It is not safe for concurrent use.
type pace struct {
	at   time.Time
	used float64 // of the burst, at the time at
}

// take lets n pass now, and returns how long to wait before the next.
func (p *pace) take(n int, now time.Time, r rate) time.Duration {
	if elapsed := now.Sub(p.at).Seconds(); elapsed > 0 {
		p.used = max(0, p.used-elapsed*r.perSecond)
		p.at = now
	}
	p.used += float64(n)
	if p.used <= r.burst {
		return 0
	}
	return time.Duration((p.used - r.burst) / r.perSecond * float64(time.Second))
}
