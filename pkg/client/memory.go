package client

import (
	"slices"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// maxRemembered bounds what is remembered of events that the handler has seen:
// more than the gateway sends again after a connection or an edge was lost. Over
// it the oldest is forgotten, and would be handled again.
const maxRemembered = 4 * protocol.MaxAckIDs

// standing is what has become of an event.
type standing uint8

const (
	unknown standing = iota
	inHand           // it waits for the handler, is handled, or is acknowledged later
	done             // its handler has succeeded, or it was acknowledged
)

// memory knows which events are in hand and which were done lately, over
// connections, so that no repeat is worked on twice. Its methods may be called at
// once.
type memory struct {
	mu      sync.Mutex
	events  map[string]standing
	handled []string // whose handler has returned, oldest first
	// unacked need an ack: the one whose handler runs, and those that wait for
	// theirs, oldest first.
	unacked []string
	since   time.Time // when the handler that runs was called; zero: none runs
}

func newMemory() *memory { return &memory{events: make(map[string]standing)} }

// take returns how an event stands that has just come. One that is unknown is in
// hand from then on.
func (m *memory) take(e *protocol.Event) standing {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.events[e.EventID]
	if s == unknown {
		m.events[e.EventID] = inHand
		if e.RequiresAck {
			m.unacked = append(m.unacked, e.EventID)
		}
	}
	return s
}

// forget makes an event unknown: it is to be handled when it comes again.
func (m *memory) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(id)
}

func (m *memory) forgetLocked(id string) {
	delete(m.events, id)
	m.leaveLocked(id)
}

// leaveLocked notes that an event's handler does not run, nor is to.
func (m *memory) leaveLocked(id string) {
	if i := slices.Index(m.unacked, id); i >= 0 {
		m.unacked = slices.Delete(m.unacked, i, i+1)
	}
}

// begin says that the handler of the oldest event runs.
func (m *memory) begin(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = now
}

// end says that an event's handler has returned.
func (m *memory) end(id string, s standing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = time.Time{}
	if s == unknown {
		m.forgetLocked(id)
		return
	}
	m.leaveLocked(id)
	if m.events[id] != done { // it may have been acknowledged meanwhile
		m.events[id] = s
	}
	m.handled = append(m.handled, id)
	if over := len(m.handled) - maxRemembered; over > 0 {
		for _, oldest := range m.handled[:over] {
			delete(m.events, oldest)
		}
		m.handled = m.handled[over:]
	}
}

// acknowledged says that events are done whose handler left that open.
func (m *memory) acknowledged(ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		if m.events[id] == inHand {
			m.events[id] = done
		}
	}
}

// inProgress returns the event for which the gateway is to wait, if the handler
// has been at work for at least that long: the oldest event that is not
// acknowledged. That is the one that is handled, unless it needs no ack or has
// it: then the gateway waits for what comes behind it.
func (m *memory) inProgress(least time.Duration, now time.Time) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since.IsZero() || now.Sub(m.since) < least {
		return nil
	}
	for _, id := range m.unacked {
		if m.events[id] == inHand {
			return []string{id}
		}
	}
	return nil
}
