package ledger

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// flushed is how long an edge that nothing disturbs may take to write what it
// knows into the cursor, with room for a busy machine: it does each second.
const flushed = 5 * time.Second

// Reason explains why an event came again.
type Reason string

// The reasons for repeats.
const (
	// Unacknowledged: the seat had not acknowledged it.
	Unacknowledged Reason = "not acknowledged before"
	// AckOnTheWay: the connection ended, or the repeat came, before the edge is
	// known to have had the ack.
	AckOnTheWay Reason = "ack still on its way"
	// BeforeFlush: the seat was back before the cursor is certain to be written.
	BeforeFlush Reason = "back before the cursor was written"
	// Disturbed: a fault concerned the edge or the log when the ack was to arrive,
	// or the cursor to be written.
	Disturbed Reason = "a fault at the edge or in NATS"
	// NewName: a seat of the orchestrator has changed its daemon id, and a new id
	// continues where the others left off.
	NewName Reason = "daemons under new ids"
	// Unknown: nothing is known of faults.
	Unknown Reason = "nothing known of faults"
	// Unexplained: none of these; a violation.
	Unexplained Reason = "unexplained"
)

// Reasons returns all reasons, the harmless ones first.
func Reasons() []Reason {
	return []Reason{Unacknowledged, AckOnTheWay, BeforeFlush, Disturbed, NewName, Unknown, Unexplained}
}

// moment is when something happened on a connection to an edge.
type moment struct {
	edge string
	when time.Time
}

// past is what became of an event on the earlier connections of a seat.
type past struct {
	received, settled []moment
	acked             bool
}

// judgeRepeats looks at what came again, over the connections of each seat.
func (j *judge) judgeRepeats() {
	j.report.Reasons = map[Reason]int{}
	seats := map[Seat]map[string]past{}
	own := j.ownCursors()
	for _, c := range j.conns {
		if seats[c.Seat] == nil {
			seats[c.Seat] = map[string]past{}
		}
		before, here := seats[c.Seat], map[string]bool{}
		for _, r := range c.receipts {
			id := r.event.EventID
			p, again := before[id]
			switch {
			case here[id]:
				j.countRepeat(p, r, j.judgeRepeatHere(c, r))
			case again && !own[c.Orchestrator]:
				j.countRepeat(p, r, NewName)
			case again:
				j.countRepeat(p, r, j.judgeRepeat(c, r, p))
			}
			here[id] = true
		}
		c.addTo(before)
	}
}

func (j *judge) countRepeat(p past, r receipt, why Reason) {
	j.report.Repeats++
	j.report.Reasons[why]++
	if !r.event.Redelivered {
		j.report.Unmarked++
	}
	if p.acked {
		j.report.Stale++
	}
}

// judgeRepeatHere looks at what had come on the same connection: once it is
// acknowledged there, it must not come.
func (j *judge) judgeRepeatHere(c *connection, r receipt) Reason {
	acked, ok := c.acked[r.event.EventID]
	arrived, known := c.arrival(acked)
	switch {
	case !ok || !r.when.After(acked):
		return Unacknowledged
	case !known || !r.when.After(arrived):
		return AckOnTheWay
	case j.promise.Calm == nil:
		return Unknown
	case !j.promise.Calm(c.Edge, acked, arrived):
		return Disturbed
	}
	k := key{c.Orchestrator, r.event.EventID}
	j.violated(Repeated, k, "%s got %s again, which it had acknowledged at %s, and the edge had that by %s", c, k.id, stamp(acked), stamp(arrived))
	return Unexplained
}

// judgeRepeat looks at what had come on an earlier connection: once the cursor
// says what became of it, it must not come as if it were new, and if it was
// settled, not at all.
func (j *judge) judgeRepeat(c *connection, r receipt, p past) Reason {
	k := key{c.Orchestrator, r.event.EventID}
	if m, ok := j.written(c, p.settled); ok {
		j.violated(Repeated, k, "%s got %s again, which was settled on %s at %s", c, k.id, m.edge, stamp(m.when))
		return Unexplained
	}
	if m, ok := j.written(c, p.received); ok && !r.event.Redelivered {
		j.violated(Repeated, k, "%s got %s again, unmarked, which came on %s at %s", c, k.id, m.edge, stamp(m.when))
		return Unexplained
	}
	switch {
	case len(p.settled) == 0 && p.acked:
		return AckOnTheWay
	case len(p.settled) == 0:
		return Unacknowledged
	case c.openedAt.Before(p.settled[len(p.settled)-1].when.Add(flushed)):
		return BeforeFlush
	case j.promise.Calm == nil:
		return Unknown
	}
	return Disturbed
}

// written returns one of some moments that the cursor had certainly been
// written after when a connection was opened.
func (j *judge) written(c *connection, moments []moment) (moment, bool) {
	i := slices.IndexFunc(moments, func(m moment) bool {
		by := m.when.Add(flushed)
		return j.promise.Calm != nil && !c.openedAt.Before(by) && j.promise.Calm(m.edge, m.when, by)
	})
	if i < 0 {
		return moment{}, false
	}
	return moments[i], true
}

// addTo adds what happened on a connection to a seat's past.
func (c *connection) addTo(all map[string]past) {
	for _, r := range c.receipts {
		p := all[r.event.EventID]
		at := moment{c.Edge, r.when}
		p.received = append(p.received, at)
		if !r.event.RequiresAck {
			p.settled = append(p.settled, at)
		}
		all[r.event.EventID] = p
	}
	for id, when := range c.acked {
		p := all[id]
		p.acked = true
		if arrived, known := c.arrival(when); known {
			p.settled = append(p.settled, moment{c.Edge, arrived})
		}
		all[id] = p
	}
}

// ownCursors returns the orchestrators all of whose seats kept their daemon id,
// so that each continued from a cursor of its own.
func (j *judge) ownCursors() map[protocol.OrchestratorID]bool {
	own := map[protocol.OrchestratorID]bool{}
	for orchestrator, seats := range j.seatsByOrchestrator() {
		own[orchestrator] = true
		for _, s := range seats {
			if s.renamed() {
				own[orchestrator] = false
			}
		}
	}
	return own
}
