package eventlog

import "time"

// rushInterval is the time between two moments at which questions in bulk are put
// in a rush. A shorter one saves less, and a longer one keeps whoever connects.
const rushInterval = 10 * time.Millisecond

// Pace says for how long a question in bulk gathers before it is put. Where none
// was put a moment ago, that is First. In a rush it is until the next of the
// moments that all partitions share: what goes out together is read, and answered,
// with fewer calls of the system, here and in NATS. It belongs to one who gathers,
// whose questions follow one another.
type Pace struct {
	First time.Duration
	// Second is whether what is asked follows the answer to another question of the
	// same rush. It then has moments of its own, between those of that one.
	Second bool

	put time.Time // the last question
}

// Gather returns how long a question that begins to gather now does so.
func (p *Pace) Gather(now time.Time) time.Duration {
	wait := p.First
	if now.Sub(p.put) < rushInterval {
		wait = p.untilMoment(now)
	}
	p.put = now.Add(wait)
	return wait
}

func (p *Pace) untilMoment(now time.Time) time.Duration {
	if p.Second {
		now = now.Add(rushInterval / 2)
	}
	return rushInterval - time.Duration(now.UnixNano())%rushInterval
}
