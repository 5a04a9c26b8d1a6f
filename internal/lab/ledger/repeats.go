package ledger

import (
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Reason explains why an event came again.
type Reason string

// The reasons for repeats.
const (
	// Unacknowledged: the seat had not acknowledged it.
	Unacknowledged Reason = "not acknowledged before"
	// AckOnTheWay: the connection ended, or the repeat came, before the edge is
	// known to have had the ack.
	AckOnTheWay Reason = "ack still on its way"
	// BrokeOff: it needs no ack, and its connection broke before the edge is known
	// to have written it whole.
	BrokeOff Reason = "the connection broke just after"
	// BeforeFlush: the seat was back, with this connection or with one before it,
	// when the cursor was not yet certain to be written.
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
	return []Reason{Unacknowledged, AckOnTheWay, BrokeOff, BeforeFlush, Disturbed, NewName, Unknown, Unexplained}
}

// history is what a seat had on its connections so far.
type history struct {
	conns  []*connection
	events map[string]past
}

// past is what became of an event on them.
type past struct {
	first int // of conns, the one that had it first
	acked bool
}

// judgeRepeats looks at what came again, over the connections of each seat.
func (j *judge) judgeRepeats() {
	j.report.Reasons = map[Reason]int{}
	seats := map[Seat]*history{}
	own := j.ownCursors()
	for _, c := range j.conns {
		if seats[c.Seat] == nil {
			seats[c.Seat] = &history{events: map[string]past{}}
		}
		before, here := seats[c.Seat], map[string]receipt{}
		for _, r := range c.receipts {
			id := r.event.EventID
			p, again := before.events[id]
			first, twice := here[id]
			switch {
			case twice:
				j.countRepeat(p, r, j.judgeRepeatHere(c, first, r))
				continue
			case again && !own[c.Orchestrator]:
				j.countRepeat(p, r, NewName)
			case again:
				j.countRepeat(p, r, j.judgeRepeat(c, r, p, before.conns[p.first:]))
			}
			here[id] = r
		}
		before.add(c)
	}
}

// add adds a connection to a seat's past.
func (h *history) add(c *connection) {
	note := func(id string, acked bool) {
		p, known := h.events[id]
		if !known {
			p.first = len(h.conns)
		}
		p.acked = p.acked || acked
		h.events[id] = p
	}
	for _, r := range c.receipts {
		note(r.event.EventID, false)
	}
	for id := range c.acked {
		note(id, true)
	}
	h.conns = append(h.conns, c)
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
// acknowledged there, it must not come, and what needs no ack must not at all.
func (j *judge) judgeRepeatHere(c *connection, first, r receipt) Reason {
	settled, arrived, how := first.when, r.when, "needs no ack and had come"
	if r.event.RequiresAck {
		acked, ok := c.acked[r.event.EventID]
		if !ok || !r.when.After(acked) {
			return Unacknowledged
		}
		there, known := c.arrival(acked)
		if !known || !r.when.After(there) {
			return AckOnTheWay
		}
		settled, arrived, how = acked, there, "it had acknowledged, and the edge had that,"
	}
	switch {
	case j.promise.Calm == nil:
		return Unknown
	case !j.promise.Calm(c.Edge, settled, arrived):
		return Disturbed
	}
	k := key{c.Orchestrator, r.event.EventID}
	j.violated(Repeated, k, "%s got %s again, which %s at %s", c, k.id, how, stamp(settled))
	return Unexplained
}

// judgeRepeat looks at what had come on earlier connections: once the cursor says
// what became of it, it must not come as if it were new, and if it was settled, not
// at all.
func (j *judge) judgeRepeat(c *connection, r receipt, p past, earlier []*connection) Reason {
	k := key{c.Orchestrator, r.event.EventID}
	var why Reason
	for i, e := range earlier {
		newest := c.openedAt
		if i+1 < len(earlier) {
			newest = earlier[i+1].openedAt
		}
		for _, s := range j.savesOf(e, r.event, newest, c.openedAt) {
			if why = j.judgeSave(s); why == Unexplained {
				j.violated(Repeated, k, "%s got %s again, which was settled on %s at %s", c, k.id, e, stamp(s.known))
				return Unexplained
			}
		}
		if !r.event.Redelivered && j.isNoted(e, r.event, newest) {
			j.violated(Repeated, k, "%s got %s again, unmarked, which came on %s", c, k.id, e)
			return Unexplained
		}
	}
	switch {
	case why != "":
		return why
	case p.acked:
		return AckOnTheWay
	case !r.event.RequiresAck:
		return BrokeOff
	}
	return Unacknowledged
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
