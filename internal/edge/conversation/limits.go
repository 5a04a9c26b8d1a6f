package conversation

import (
	"sync"
	"time"
)

// Rates are the limits of one orchestrator on one edge.
type Rates struct {
	// MessagesPerMinute counts all messages but acks and heartbeats, and
	// heartbeats by themselves.
	MessagesPerMinute int
	// AcksPerMinute is how fast ack messages are read.
	AcksPerMinute int
}

// Limits counts what the connections of one orchestrator send. It is safe for
// concurrent use.
type Limits struct {
	rates Rates

	mu         sync.Mutex
	messages   window
	heartbeats window
	acks       bucket
}

// NewLimits returns limits that nothing has been counted against.
func NewLimits(rates Rates) *Limits { return &Limits{rates: rates} }

// Idle reports whether nothing that was counted matters any more.
func (l *Limits) Idle(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Sub(l.messages.start) >= time.Minute && now.Sub(l.heartbeats.start) >= time.Minute &&
		now.Sub(l.acks.at) >= time.Minute
}

// message counts a message. Over the limit, it returns how long the sender is
// to wait and how many came within this minute.
func (l *Limits) message(now time.Time) (wait time.Duration, count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.messages.count(now, l.rates.MessagesPerMinute)
}

// heartbeat is message for heartbeats.
func (l *Limits) heartbeat(now time.Time) (wait time.Duration, count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heartbeats.count(now, l.rates.MessagesPerMinute)
}

// ack takes an ack message, which is always accepted, and returns how long to
// wait before the next one is read.
func (l *Limits) ack(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acks.take(now, l.rates.AcksPerMinute)
}

// window counts by whole minutes, each beginning with its first message.
type window struct {
	start time.Time
	n     int
}

func (w *window) count(now time.Time, most int) (time.Duration, int) {
	if now.Sub(w.start) >= time.Minute {
		w.start, w.n = now, 0
	}
	w.n++
	if w.n <= most {
		return 0, w.n
	}
	return w.start.Add(time.Minute).Sub(now), w.n
}

// bucket holds a minute's worth and refills evenly; it may be overdrawn.
type bucket struct {
	at   time.Time
	used float64 // at the time at
}

func (b *bucket) take(now time.Time, perMinute int) time.Duration {
	perSecond := float64(perMinute) / 60
	if elapsed := now.Sub(b.at).Seconds(); elapsed > 0 {
		b.used = max(0, b.used-elapsed*perSecond)
		b.at = now
	}
	b.used++
	over := b.used - float64(perMinute)
	if over <= 0 {
		return 0
	}
	return time.Duration(over / perSecond * float64(time.Second))
}
