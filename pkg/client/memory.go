package client

import (
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
	running string   // the event whose handler runs and that needs an ack, or ""
	since   time.Time
}

func newMemory() *memory { return &memory{events: make(map[string]standing)} }

// take returns how an event stands that has just come. One that is unknown is in
// hand from then on.
func (m *memory) take(id string) standing {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.events[id]
	if s == unknown {
		m.events[id] = inHand
	}
	return s
}

// forget makes an event unknown: it is to be handled when it comes again.
func (m *memory) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.events, id)
}

// begin says that an event's handler runs.
func (m *memory) begin(e *protocol.Event, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.RequiresAck {
		m.running, m.since = e.EventID, now
	}
}

// end says that an event's handler has returned.
func (m *memory) end(id string, s standing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = ""
	if s == unknown {
		delete(m.events, id)
		return
	}
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

// inProgress returns the event that the handler has been working on for at least
// that long, if there is one.
func (m *memory) inProgress(least time.Duration, now time.Time) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running == "" || now.Sub(m.since) < least {
		return nil
	}
	return []string{m.running}
}
