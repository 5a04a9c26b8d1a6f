package conversation

import "time"

// Request counts a request by HTTP as a message. Over the limit it returns how
// long the sender is to wait.
func (l *Limits) Request(now time.Time) (wait time.Duration) {
	wait, _ = l.message(now)
	return wait
}

// AckRequest counts a request by HTTP that acknowledges events as an ack
// message. Over the limit it returns how long the sender is to wait, and does
// not count the request: it is refused, while acks on a socket are read later.
func (l *Limits) AckRequest(now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.acks
	if wait = l.acks.take(now, l.rates.AcksPerMinute); wait > 0 {
		l.acks = before
	}
	return wait
}
