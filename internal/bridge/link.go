package bridge

import (
	"sync"
	"time"
)

// link is what is known of the subscription on Redis: for /readyz, the metrics
// and the watch over it. Its methods may be called concurrently.
type link struct {
	mu          sync.Mutex
	connected   bool // every channel and pattern is confirmed
	ever        bool
	answers     bool // Redis answers us, though it may refuse
	since       time.Time
	away        time.Duration // in all, without the present spell
	problem     string
	lastHeard   time.Time // any answer
	lastMessage time.Time
	silenceSaid bool
}

func newLink(now time.Time) *link { return &link{since: now, problem: "not connected yet"} }

// up notes that the subscription is complete. again is true for every time but
// the first: between the two, messages may have been published unheard.
func (l *link) up(now time.Time) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.connected {
		l.away += now.Sub(l.since)
		l.since = now
	}
	again = l.ever
	l.connected, l.ever, l.problem, l.silenceSaid = true, true, "", false
	return again
}

// down notes that the subscription is gone. It returns how long it had lasted,
// 0 if there was none.
func (l *link) down(now time.Time, answers bool, problem string) (lasted time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.connected {
		lasted = now.Sub(l.since)
		l.since = now
	}
	l.connected, l.answers, l.problem = false, answers, problem
	return lasted
}

// heard notes an answer of Redis; message tells events from the rest.
func (l *link) heard(now time.Time, message bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = true
	l.lastHeard = now
	if message {
		l.lastMessage = now
		l.silenceSaid = false
	}
}

// dialed restarts the clock of quietFor for a new connection.
func (l *link) dialed(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastHeard = now
}

// quietFor returns how long Redis has said nothing at all.
func (l *link) quietFor(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Sub(l.lastHeard)
}

// silent reports, once for each spell of silence, that the subscription is up
// but has brought no message for that long.
func (l *link) silent(now time.Time, after time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	start := l.since
	if l.lastMessage.After(start) {
		start = l.lastMessage
	}
	if !l.connected || l.silenceSaid || now.Sub(start) < after {
		return false
	}
	l.silenceSaid = true
	return true
}

// disconnected returns how long there has been no subscription, in all.
func (l *link) disconnected(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.connected {
		return l.away
	}
	return l.away + now.Sub(l.since)
}

// state returns a copy for those who only look.
func (l *link) state() linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return linkState{connected: l.connected, answers: l.answers, problem: l.problem, lastMessage: l.lastMessage}
}

type linkState struct {
	connected   bool
	answers     bool
	problem     string
	lastMessage time.Time
}
