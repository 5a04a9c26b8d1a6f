// Package ledger writes down what publishers and daemons see of the gateway
// from outside - every publish, connection, receipt, ack and close, in one order -
// and then judges it against what the protocol promises. It is pure: it talks to
// nothing, so the judge itself is tested with seeded violations.
package ledger

import (
	"slices"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Seat names a place that one daemon process after the other may take, each
// with an id of its own or with the same: one consumer as its owner sees it.
type Seat string

// Connection is one connection of a daemon.
type Connection struct {
	Seat         Seat
	Orchestrator protocol.OrchestratorID
	Daemon       protocol.DaemonID
	// Subscriptions are all that it subscribes to, before its first event.
	Subscriptions []protocol.Subscription
	// Edge is where it connects; it only stands in what is reported.
	Edge string
}

// wants reports whether an event matches the subscriptions.
func (c Connection) wants(e event.Event) bool {
	return slices.ContainsFunc(c.Subscriptions, func(s protocol.Subscription) bool { return s.Matches(e.Type, e.ChannelID) })
}

// ConnID numbers the connections of a ledger.
type ConnID int

// Ledger collects facts. Its methods may be called at the same time; the order
// of calls is the order of facts, so whoever records must do it in the order of
// cause and effect: a publish before it is sent, an ack before it is written, a
// close before the next connect.
type Ledger struct {
	clock func() time.Time

	mu        sync.Mutex
	now       int // counts facts
	published map[key]*publication
	order     []*publication
	conns     []*connection
	stored    map[key]Place
	doubled   map[key]Place // a second place of what is stored
	buried    map[key]bool
	seats     map[Seat]*progress
	logLost   time.Time // zero: never
}

// Place is where the log holds an event.
type Place struct {
	Partition event.Partition
	Sequence  uint64
	// When is the log's own time of it; zero: not known.
	When time.Time
}

// key identifies an event: ids are the publisher's, so two orchestrators may
// use the same.
type key struct {
	orchestrator protocol.OrchestratorID
	id           string
}

type publication struct {
	at        int
	when      time.Time
	event     event.Event
	confirmed time.Time // zero: not
}

type connection struct {
	Connection
	id         ConnID
	opened     int
	openedAt   time.Time
	subscribed int // 0: not yet
	closed     int // 0: not yet
	receipts   []receipt
	acked      map[string]time.Time // by event id, the first ack
	questions  []question           // in the order of asking
	answered   int                  // how many of them, the oldest first

	subscribedAt, closedAt time.Time
}

type receipt struct {
	when  time.Time
	event protocol.Event
}

// progress is what callers may wait for.
type progress struct {
	received, acked map[string]bool
}

// New returns an empty ledger.
func New() *Ledger { return NewAt(time.Now) }

// NewAt is New with another clock.
func NewAt(clock func() time.Time) *Ledger {
	return &Ledger{
		clock: clock, published: map[key]*publication{}, stored: map[key]Place{},
		doubled: map[key]Place{}, buried: map[key]bool{}, seats: map[Seat]*progress{},
	}
}

// tickLocked numbers a fact; mu is held.
func (l *Ledger) tickLocked() int {
	l.now++
	return l.now
}

// Published records that an event is about to be published. Publishing an id
// again is the same event.
func (l *Ledger) Published(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := key{e.OrchestratorID, e.ID}
	if l.published[k] != nil {
		return
	}
	p := &publication{at: l.tickLocked(), when: l.clock(), event: e}
	l.published[k] = p
	l.order = append(l.order, p)
}

// Confirmed records that the log has acknowledged a publish, before the next of
// its orchestrator began: from now on the event must not be lost.
func (l *Ledger) Confirmed(orchestrator protocol.OrchestratorID, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.published[key{orchestrator, id}]; p != nil {
		p.confirmed = l.clock()
	}
}

// Stored records where the log holds an event. Without it nothing is said
// about order. A second place is a second copy.
func (l *Ledger) Stored(orchestrator protocol.OrchestratorID, id string, at Place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := key{orchestrator, id}
	if before, ok := l.stored[k]; ok && before != at {
		l.doubled[k] = at
		return
	}
	l.stored[k] = at
}

// LogLost records that the log was lost, and is a new one or was restored from
// a backup: what is received from now on may have been received before, and
// Stored tells of the new log alone, whose places say nothing about what was
// received before.
func (l *Ledger) LogLost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logLost = l.clock()
}

// IsStored reports whether Stored was told of an event.
func (l *Ledger) IsStored(orchestrator protocol.OrchestratorID, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.stored[key{orchestrator, id}]
	return ok
}

// Buried records that an event is in the dead letters.
func (l *Ledger) Buried(orchestrator protocol.OrchestratorID, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buried[key{orchestrator, id}] = true
}

// Connected records that a daemon is about to connect.
func (l *Ledger) Connected(c Connection) ConnID {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := ConnID(len(l.conns))
	l.conns = append(l.conns, &connection{Connection: c, id: id, opened: l.tickLocked(), openedAt: l.clock(), acked: map[string]time.Time{}})
	if l.seats[c.Seat] == nil {
		l.seats[c.Seat] = &progress{received: map[string]bool{}, acked: map[string]bool{}}
	}
	return id
}

// Subscribed records that the gateway has confirmed the first subscribe.
func (l *Ledger) Subscribed(id ConnID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conns[id]
	c.subscribed, c.subscribedAt = l.tickLocked(), l.clock()
}

// Received records an event as the daemon got it. e.Data is kept.
func (l *Ledger) Received(id ConnID, e protocol.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conns[id]
	c.receipts = append(c.receipts, receipt{when: l.clock(), event: e})
	l.seats[c.Seat].received[e.EventID] = true
}

// Acked records that a daemon is about to acknowledge events.
func (l *Ledger) Acked(id ConnID, ids ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conns[id]
	at := l.clock()
	for _, event := range ids {
		if _, before := c.acked[event]; !before {
			c.acked[event] = at
		}
		l.seats[c.Seat].acked[event] = true
	}
}

// Closed records that a connection has ended, for whatever reason.
func (l *Ledger) Closed(id ConnID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.conns[id]; c.closed == 0 {
		c.closed, c.closedAt = l.tickLocked(), l.clock()
	}
}

// Progress returns how many different events a seat has received and
// acknowledged, for callers that wait.
func (l *Ledger) Progress(s Seat) (received, acked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.seats[s]
	if p == nil {
		return 0, 0
	}
	return len(p.received), len(p.acked)
}
