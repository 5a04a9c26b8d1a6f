package ledger

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// flushed is how long an edge that nothing disturbs may take to write what it
// knows into the cursor, with room for a busy machine: it does each second.
const flushed = 5 * time.Second

// save is the write of a cursor that an edge owes from when it has settled an event.
type save struct {
	edge string
	// known is when the edge had settled the event for certain.
	known time.Time
	// counts is until when what is written counts. Acks count for as long as
	// anybody asks; all else that a connection says of where its daemon stands only
	// until the daemon begins elsewhere (architecture: Cursors).
	counts time.Time
}

// judgeSave says why what was to be saved may be missing in the cursor;
// Unexplained: it cannot be.
func (j *judge) judgeSave(s save) Reason {
	by := s.known.Add(flushed)
	switch {
	case s.counts.Before(by):
		return BeforeFlush
	case j.promise.Calm == nil:
		return Unknown
	case !j.promise.Calm(s.edge, s.known, by):
		return Disturbed
	}
	return Unexplained
}

// savesOf returns the saves by which an event was settled on a connection: that of
// its ack; that of its receipt, where it needs no ack; and those of what stands
// behind it, since the position of a connection that is there has passed the event.
// newest is until when the daemon had no newer connection, asked when its cursor
// was read again.
func (j *judge) savesOf(c *connection, e protocol.Event, newest, asked time.Time) []save {
	var all []save
	if acked, ok := c.acked[e.EventID]; ok {
		if known, ok := c.arrival(acked); ok {
			all = append(all, save{c.Edge, known, asked})
		}
	}
	first := c.receiptOf(e.EventID)
	if first >= 0 && e.RequiresAck {
		return all
	}
	for i, r := range c.receipts {
		if i != first && (i < first || !j.isBehind(r, key{c.Orchestrator, e.EventID}, e.Priority)) {
			continue
		}
		if known, ok := c.settled(r); ok {
			all = append(all, save{c.Edge, known, newest})
		}
	}
	return all
}

// isNoted reports whether the cursor must have said that an event which needs an
// ack was sent on a connection. That alone is no reason to write it: something else
// was settled there after the event was written.
func (j *judge) isNoted(c *connection, e protocol.Event, newest time.Time) bool {
	first := c.receiptOf(e.EventID)
	if first < 0 || !e.RequiresAck {
		return false
	}
	written, ok := c.answer(c.receipts[first].when)
	return ok && slices.ContainsFunc(c.receipts, func(r receipt) bool {
		known, ok := c.settled(r)
		later := r.when.After(written)
		if r.event.RequiresAck {
			later = c.acked[r.event.EventID].After(written)
		}
		return ok && later && j.judgeSave(save{c.Edge, known, newest}) == Unexplained
	})
}

// receiptOf returns which of the connection's receipts is an event's first; -1: none.
func (c *connection) receiptOf(id string) int {
	return slices.IndexFunc(c.receipts, func(r receipt) bool { return r.event.EventID == id })
}

// settled is when the edge had for certain settled what it had sent; false: that is
// not known. What needs no ack is settled once the edge has written it, which may
// come to the daemon and break off behind it: the answer to a question that was
// asked then is written later.
func (c *connection) settled(r receipt) (time.Time, bool) {
	if !r.event.RequiresAck {
		return c.answer(r.when)
	}
	acked, ok := c.acked[r.event.EventID]
	if !ok || acked.Before(r.when) {
		return time.Time{}, false
	}
	return c.arrival(acked)
}
