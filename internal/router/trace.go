package router

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// What a router notes of the events that are traced. It does not read events that go
// well, so it learns the id of those alone that it has something to say of.

// traceUnclaimed notes that nobody holds an event's orchestrator.
func (r *run) traceUnclaimed(m eventlog.Message) {
	if cause := r.trace.Choose(m.Token, r.partition, m.Sequence, m.Trace); cause != trace.None {
		r.traceHops(cause, m, m.Stored, trace.Hop{At: time.Now(), Step: trace.Unclaimed})
	}
}

// traceForwarded notes which events of a batch go to which edge, and has the batch
// say who has sent it, and which spans come before what the edge will note. The lane
// keeps the events as they are.
func (r *run) traceForwarded(s *lane.Send, now time.Time) {
	if !r.trace.On() {
		return
	}
	s.Batch.Router, s.Batch.Sent = r.trace.Node(), now
	own := false
	for i, f := range s.Batch.Events {
		cause := r.trace.Choose(f.Token, r.partition, f.Sequence, f.Trace)
		if cause == trace.None {
			continue
		}
		next, _ := r.traceHops(cause, f.Message, f.Stored, trace.Hop{At: now, Step: trace.Forwarded, Edge: s.Edge})
		if next == f.Trace {
			continue
		}
		if !own {
			s.Batch.Events, own = slices.Clone(s.Batch.Events), true
		}
		s.Batch.Events[i].Trace = next
	}
	for _, h := range s.Batch.Hints {
		if r.trace.Watches(h.Token) {
			r.trace.Say(h.Token, trace.Hop{At: now, Step: trace.Hinted, Edge: s.Edge})
		}
	}
}

// traceUnconfirmed notes the events of a batch that an edge has not confirmed, as
// many as there is room for: of an edge that is gone there may be thousands.
func (r *run) traceUnconfirmed(sent sentBatch, outcome lane.Outcome) {
	now, why := time.Now(), string(outcomeNames[outcome])
	for _, f := range sent.send.Batch.Events {
		cause := r.trace.Because(f.Token, trace.Failed)
		if cause == trace.None {
			return
		}
		if _, room := r.traceHops(cause, f.Message, sent.at,
			trace.Hop{At: sent.at, Step: trace.Forwarded, Edge: sent.send.Edge},
			trace.Hop{At: now, Step: trace.Unconfirmed, Edge: sent.send.Edge, Detail: why}); !room {
			return
		}
	}
}

// traceRefused notes an event that is in the dead letters.
func (r *run) traceRefused(m eventlog.Message, why *event.InvalidError) {
	if why.Event.ID == "" {
		return
	}
	cause := r.trace.Because(m.Token, trace.Failed)
	span, _ := trace.NewSpan(r.traceOf(m, why.Event.ID, cause), m.Stored)
	r.trace.Add(trace.Record{
		Cause: cause, Orchestrator: m.Token, Event: why.Event.ID,
		Partition: r.partition, Epoch: string(r.epoch), Sequence: m.Sequence, Span: span,
		Hops: []trace.Hop{
			{At: m.Stored, Step: trace.Stored, Tier: trace.TierLog}, {At: time.Now(), Step: trace.DeadLettered, Detail: why.Error()},
		},
	})
}

// traceHops notes hops of an event. It returns where whoever has the event next
// stands in its trace, and false where there was no room.
func (r *run) traceHops(cause trace.Cause, m eventlog.Message, began time.Time, hops ...trace.Hop) (next *tracing.Context, room bool) {
	e, err := event.ParseInPlace(m.Body, len(m.Body))
	if err != nil || m.Token.Reserved() {
		return m.Trace, true
	}
	all := make([]trace.Hop, 0, len(hops)+2)
	if published, ok := trace.PublishedAt(e.Timestamp); ok {
		all = append(all, published)
	}
	all = append(all, trace.Hop{At: m.Stored, Step: trace.Stored, Tier: trace.TierLog})
	span, next := trace.NewSpan(r.traceOf(m, e.ID, cause), began)
	return next, r.trace.Add(trace.Record{
		Cause: cause, Orchestrator: m.Token, Event: e.ID, Partition: r.partition, Epoch: string(r.epoch), Sequence: m.Sequence,
		Hops: append(all, hops...), Span: span,
	})
}

// traceOf is where an event stands in its trace, or in the one that begins with what
// is the matter with it.
func (r *run) traceOf(m eventlog.Message, id string, cause trace.Cause) *tracing.Context {
	if m.Trace != nil {
		return m.Trace
	}
	return r.trace.Late(m.Token, id, cause)
}
