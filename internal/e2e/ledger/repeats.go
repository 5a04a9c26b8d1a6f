package ledger

import (
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// flushed is how long an edge that nothing disturbs may take to write what
	// has happened into the cursor, with room for a busy machine: it does each second.
	flushed = 5 * time.Second
	// arrived is how long after an ack the connection must have lived for the ack
	// to have reached the edge for certain.
	arrived = time.Second
)

// moment is when something happened on a connection to an edge; zero: never.
type moment struct {
	edge string
	when time.Time
}

// past is what became of an event on the earlier connections of a seat.
type past struct {
	received, settled moment
	acked             bool
}

// judgeRepeats looks at what came again, over the connections of each seat.
func (j *judge) judgeRepeats() {
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
			if again && !here[id] && own[c.Orchestrator] {
				j.judgeRepeat(c, r, p)
			}
			if again || here[id] {
				j.countRepeat(p, r)
			}
			here[id] = true
		}
		c.addTo(before)
	}
}

func (j *judge) countRepeat(p past, r receipt) {
	j.report.Repeats++
	if !r.event.Redelivered {
		j.report.Unmarked++
	}
	if p.acked {
		j.report.Stale++
	}
}

// judgeRepeat looks at what had come on an earlier connection: once the cursor
// says what became of it, it must not come as if it were new, and if it was
// settled, not at all.
func (j *judge) judgeRepeat(c *connection, r receipt, p past) {
	written := func(m moment) bool {
		by := m.when.Add(flushed)
		return j.promise.Calm != nil && !m.when.IsZero() && !c.openedAt.Before(by) && j.promise.Calm(m.edge, m.when, by)
	}
	k := key{c.Orchestrator, r.event.EventID}
	switch {
	case written(p.settled):
		j.violated(Repeated, k, "%s got %s again, which was settled on %s at %s", c, k.id, p.settled.edge, stamp(p.settled.when))
	case !r.event.Redelivered && written(p.received):
		j.violated(Repeated, k, "%s got %s again, unmarked, which came on %s at %s", c, k.id, p.received.edge, stamp(p.received.when))
	}
}

// addTo adds what happened on a connection to a seat's past.
func (c *connection) addTo(all map[string]past) {
	for _, r := range c.receipts {
		p := all[r.event.EventID]
		at := moment{c.Edge, r.when}
		if p.received.when.IsZero() {
			p.received = at
		}
		if !r.event.RequiresAck && p.settled.when.IsZero() {
			p.settled = at
		}
		all[r.event.EventID] = p
	}
	for id, when := range c.acked {
		p := all[id]
		p.acked = true
		if p.settled.when.IsZero() && (c.closed == 0 || c.closedAt.Sub(when) >= arrived) {
			p.settled = moment{c.Edge, when}
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
