package bridge

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// link is what is known of the subscription on Redis: for /readyz, the metrics
// and the watch over it. Its methods may be called concurrently.
type link struct {
	mu          sync.Mutex
	connected   bool // every channel and pattern is confirmed
	ever        bool
	answers     bool          // Redis answers us, though it may refuse
	since       time.Time     // connected, or not
	gap         gap           // the last one; zero if there was none
	away        time.Duration // in all, without the present spell
	problem     string
	lastHeard   time.Time // any answer; zero while a connection is being made
	lastMessage time.Time
	silenceSaid bool
	unheard     subscriptions // of events, that Redis forbids
	readOnly    bool          // the server takes no writes
	complaint   string        // what it answers pings with where it is no pong
}

// gap is a time in which messages may have been published unheard.
type gap struct{ from, to time.Time }

func newLink(now time.Time) *link { return &link{since: now, problem: "not connected yet"} }

// up notes that the subscription is complete. again is true for every time but
// the first: between the two, messages may have been published unheard.
func (l *link) up(now time.Time) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.connected {
		return false // there is more to be heard than before
	}
	again = l.ever
	if again {
		l.gap = gap{l.since, now}
	}
	l.away += now.Sub(l.since)
	l.since = now
	l.connected, l.ever, l.problem, l.silenceSaid = true, true, "", false
	return again
}

// without notes what cannot be subscribed to, because Redis forbids it.
func (l *link) without(unheard subscriptions) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unheard = unheard
}

// serves notes whether the server takes writes.
func (l *link) serves(writes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readOnly = !writes
}

// answered notes the answer to a ping: an error or, as "", a pong.
func (l *link) answered(now time.Time, problem string) {
	l.heard(now, false)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.complaint = problem
}

// down notes that the subscription is gone. It returns how long it had lasted,
// 0 if there was none. A connection that was dead counts as gone from when it
// was last heard, not from when that was noticed.
func (l *link) down(now time.Time, dead, answers bool, problem string) (lasted time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.connected {
		end := now
		if dead {
			end = l.lastHeard // not before since: what made us connected was heard
		}
		lasted = end.Sub(l.since)
		l.since = end
	}
	l.connected, l.answers, l.problem, l.complaint = false, answers, problem, ""
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

// dialing makes the silence begin again: a new connection has time limits of
// its own, one after the other for each server that is asked.
func (l *link) dialing() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastHeard = time.Time{}
}

// dialed says that an answer can be heard from now on, if none has been already.
func (l *link) dialed(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lastHeard.IsZero() {
		l.lastHeard = now
	}
}

// heardAt returns when Redis last said anything; zero while a connection is
// being made.
func (l *link) heardAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastHeard
}

// silence counts the looks in a row at which Redis had said nothing. Looks are
// counted and not time: a process that stood still has not listened either, and
// what was said meanwhile is not to be thrown away.
type silence struct {
	link  *link
	heard time.Time
	looks int
}

func (s *silence) look() int {
	heard := s.link.heardAt()
	if s.looks++; heard.IsZero() || !heard.Equal(s.heard) {
		s.looks = 0
	}
	s.heard = heard
	return s.looks
}

// silent reports, once for each spell of silence, that the subscription is up
// but has brought no message for that long.
func (l *link) silent(now time.Time, after time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.connected || l.silenceSaid || now.Sub(l.silentSinceLocked()) < after {
		return false
	}
	l.silenceSaid = true
	return true
}

// silentSinceLocked is when the last message came on this subscription, or the
// subscription; l.mu is held.
func (l *link) silentSinceLocked() time.Time {
	if l.lastMessage.After(l.since) {
		return l.lastMessage
	}
	return l.since
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
	return linkState{
		connected: l.connected, answers: l.answers, since: l.since, problem: l.problem,
		lastMessage: l.lastMessage, silentSince: l.silentSinceLocked(), gap: l.gap, unheard: l.unheard,
		readOnly: l.readOnly, complaint: l.complaint,
	}
}

type linkState struct {
	connected   bool
	answers     bool
	since       time.Time // connected, or not
	problem     string
	lastMessage time.Time
	silentSince time.Time
	gap         gap
	unheard     subscriptions
	readOnly    bool
	complaint   string
}

// works reports whether the server answers, and can do what it is asked.
func (s linkState) works() bool { return s.answers && s.complaint == "" }

// detail is what /readyz says of the subscription. It is said to be silent once
// nothing has been published for that long.
func (s linkState) detail(now time.Time, silent time.Duration) string {
	var parts []string
	switch quiet := now.Sub(s.silentSince); {
	case !s.connected:
		parts = append(parts, s.problem, "not subscribed since "+stamp(s.since))
	case quiet >= silent:
		parts = append(parts, fmt.Sprintf("subscribed, but nothing is published there for %v; check REDIS_CHANNELS and REDIS_PATTERNS",
			quiet.Round(time.Second)))
	case s.lastMessage.IsZero():
		parts = append(parts, "subscribed, no message heard yet")
	default:
		parts = append(parts, "subscribed, last message at "+stamp(s.lastMessage))
	}
	if s.connected && s.unheard.len() > 0 {
		parts = append(parts, "Redis forbids this bridge to subscribe to "+s.unheard.String()+": what is published there is not heard")
	}
	if s.connected && s.complaint != "" {
		parts = append(parts, "but all else waits, since the server answers: "+s.complaint)
	}
	if s.connected && s.readOnly {
		parts = append(parts, "this server is read-only: a replica, or what was the master before a failover; what is published on its master may not come here")
	}
	if length := s.gap.to.Sub(s.gap.from); !s.gap.to.IsZero() {
		parts = append(parts, fmt.Sprintf("last gap from %s for %v", stamp(s.gap.from), length.Round(time.Millisecond)))
	}
	return strings.Join(parts, "; ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
