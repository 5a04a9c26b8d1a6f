package session

import (
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/internal/trace"
)

// What a session notes of the events that are traced. It remembers of each unsettled
// one how it came, so that the whole way is told when something is the matter with
// it, and each further hop as it happens.

// note tells a hop of an event, if it is traced. Where nothing has been told of it
// yet, so is what was before.
func (s *Session) note(sequence uint64, p *pending, cause trace.Cause, hop trace.Hop) {
	if s.cfg.Trace == nil {
		return
	}
	hops := []trace.Hop(nil)
	if cause = s.cfg.Trace.Because(s.cfg.Orchestrator, cause); p.traced <= trace.Watched && cause > p.traced {
		hops = s.way(p)
	}
	if p.traced = max(p.traced, cause); p.traced == trace.None {
		return
	}
	hop.Daemon = string(s.cfg.Daemon)
	s.emit(Trace{trace.Record{
		Cause: p.traced, Orchestrator: s.cfg.Orchestrator, Event: p.event.ID,
		Partition: s.cfg.Partition, Epoch: string(s.epoch), Sequence: sequence, Hops: append(hops, hop),
		Span: s.span(p, hop.Step),
	}})
}

// span is the next one of an event's trace: it follows the last one that this
// connection has told of, or else what came with the event.
func (s *Session) span(p *pending, step trace.Step) (span *trace.Span) {
	if p.trace == nil {
		p.trace = s.cfg.Trace.Late(s.cfg.Orchestrator, p.event.ID, p.traced)
	}
	began := p.stored
	switch {
	case p.wrote != 0 && step == trace.Written: // again
		began = time.Time{}
	case p.wrote != 0:
		began = s.wroteAt(p)
	case p.arrival != nil:
		began = p.arrival.At
	}
	span, p.trace = trace.NewSpan(p.trace, began)
	return span
}

// way is how an event came here, and that it was written, if it was.
func (s *Session) way(p *pending) []trace.Hop {
	hops := make([]trace.Hop, 0, 6)
	if hop, ok := trace.PublishedAt(p.event.Timestamp); ok {
		hops = append(hops, hop)
	}
	hops = append(hops, trace.Hop{At: p.stored, Step: trace.Stored, Tier: trace.TierLog})
	hops = append(hops, p.arrival.Hops()...)
	if p.wrote != 0 {
		hops = append(hops, trace.Hop{At: s.wroteAt(p), Step: trace.Written, Daemon: string(s.cfg.Daemon)})
	}
	return hops
}

// traceWritten decides for most events whether they are traced.
func (s *Session) traceWritten(sequence uint64, p *pending, now time.Time) {
	if s.cfg.Trace == nil {
		return
	}
	cause, detail := trace.None, ""
	switch {
	case p.repeat:
		cause, detail = trace.Repeated, "again"
	case now.Sub(p.stored) > trace.Long:
		cause = trace.Waited
	default:
		cause = s.cfg.Trace.Choose(s.cfg.Orchestrator, s.cfg.Partition, sequence, p.trace)
	}
	if cause != trace.None || p.traced != trace.None {
		s.note(sequence, p, cause, trace.Hop{At: now, Step: trace.Written, Detail: detail})
	}
}

// traceGivenUp tells of an event that is in the dead letters.
func (s *Session) traceGivenUp(sequence uint64, p *pending, now time.Time) {
	s.note(sequence, p, trace.Failed, trace.Hop{At: now, Step: trace.DeadLettered, Detail: fmt.Sprintf("tried in vain %d times", p.vain)})
}

// tracePassedOver tells of an event that is settled without being sent. When that
// is, nobody has said; it was as soon as the event had come.
func (s *Session) tracePassedOver(c *Candidate, why FilterReason) {
	m := &c.message
	cause := s.cfg.Trace.Choose(s.cfg.Orchestrator, s.cfg.Partition, m.Sequence, m.Trace)
	if cause == trace.None {
		return
	}
	ev, err := c.parse()
	if err != nil {
		return // it is in the dead letters
	}
	p := &pending{event: ev, stored: m.Stored, arrival: c.arrival, trace: m.Trace}
	at := m.Stored
	if c.arrival != nil {
		at = c.arrival.At
	}
	s.note(m.Sequence, p, cause, trace.Hop{At: at, Step: trace.PassedOver, Detail: string(why)})
}

// hasRead is how the events of a read come.
func (s *Session) hasRead(now time.Time) *trace.Arrival {
	if !s.cfg.Trace.On() {
		return nil
	}
	return &trace.Arrival{At: now, Why: string(s.cause)}
}

// Unacknowledged tells of the traced events that the daemon has in hand when the
// connection ends, and of the oldest in any case where that is a try in vain.
func (s *Session) Unacknowledged(why string, broke bool, now time.Time) {
	if s.cfg.Trace == nil {
		return
	}
	for i, it := range s.window.items {
		if it.pending == nil || !it.pending.inHand() {
			continue
		}
		cause := trace.None
		if broke && i == 0 {
			cause = trace.Failed
		}
		s.note(it.first, it.pending, cause, trace.Hop{At: now, Step: trace.Unacknowledged, Detail: why})
	}
}

// Held is an event that a session has in hand.
type Held struct {
	Sequence uint64
	// Written is when it was written last; zero: it is about to be.
	Written time.Time
	// InHand: the daemon has it and is waited for.
	InHand bool
	// Vain is how often it was tried in vain.
	Vain int
	// GivenUp: it is on its way to the dead letters.
	GivenUp bool
}

// Find returns the unsettled events with this id.
func (s *Session) Find(id string) (found []Held) {
	for _, it := range s.window.items {
		if p := it.pending; p != nil && p.event.ID == id {
			h := Held{Sequence: it.first, InHand: p.inHand(), Vain: p.vain, GivenUp: p.dead}
			if p.wrote != 0 {
				h.Written = s.wroteAt(p)
			}
			found = append(found, h)
		}
	}
	return found
}
