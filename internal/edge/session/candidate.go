package session

import (
	"bytes"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Candidate is an event of the log that sessions are to consider. Those of its
// orchestrator on one edge share it: the first that looks at it parses it, and
// the first that keeps it copies it, for all of them. It is not safe for
// concurrent use; what sessions have kept of it nobody modifies.
type Candidate struct {
	message eventlog.Message
	event   event.Event
	invalid error
	parsed  bool
	kept    bool
	arrival *trace.Arrival
}

// NewCandidate returns an event as it came, which may share memory with others.
func NewCandidate(m eventlog.Message) *Candidate { return &Candidate{message: m} }

// Came notes how the event came to this edge.
func (c *Candidate) Came(how *trace.Arrival) { c.arrival = how }

func (c *Candidate) parse() (event.Event, error) {
	if !c.parsed {
		c.parsed = true
		c.event, c.invalid = event.ParseInPlace(c.message.Body, len(c.message.Body))
	}
	return c.event, c.invalid
}

// keep returns a valid event and its body in memory of their own: the body
// shares that of a whole batch, which must not be kept alive by one event that
// waits for its ack (invariant 4). The payload is a part of the body.
func (c *Candidate) keep() (event.Event, []byte) {
	if !c.kept {
		c.kept = true
		c.message.Body = bytes.Clone(c.message.Body)
		c.event.Payload = sharing(c.message.Body, c.event.Payload)
	}
	return c.event, c.message.Body
}

// sharing returns payload as the part of body that is equal to it.
func sharing(body, payload []byte) []byte {
	if i := bytes.Index(body, payload); i >= 0 {
		return body[i : i+len(payload) : i+len(payload)]
	}
	return payload
}
