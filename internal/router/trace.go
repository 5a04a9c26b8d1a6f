package router

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// What a router notes of the events that are traced. It does not read events that go
// well, so it learns the id of those alone that it has something to say of.

// traceUnclaimed notes that nobody holds an event's orchestrator.
func (r *run) traceUnclaimed(m eventlog.Message) {
	if cause := r.trace.Choose(m.Token, r.partition, m.Sequence); cause != trace.None {
		r.traceHops(cause, m, trace.Hop{At: time.Now(), Step: trace.Unclaimed})
	}
}

// traceForwarded notes which events of a batch go to which edge, and has the batch
// say who has sent it.
func (r *run) traceForwarded(s *lane.Send, now time.Time) {
	if !r.trace.On() {
		return
	}
	s.Batch.Router, s.Batch.Sent = r.trace.Node(), now
	for _, f := range s.Batch.Events {
		if cause := r.trace.Choose(f.Token, r.partition, f.Sequence); cause != trace.None {
			r.traceHops(cause, f.Message, trace.Hop{At: now, Step: trace.Forwarded, Edge: s.Edge})
		}
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
		if !r.traceHops(cause, f.Message,
			trace.Hop{At: sent.at, Step: trace.Forwarded, Edge: sent.send.Edge},
			trace.Hop{At: now, Step: trace.Unconfirmed, Edge: sent.send.Edge, Detail: why}) {
			return
		}
	}
}

// traceRefused notes an event that is in the dead letters.
func (r *run) traceRefused(m eventlog.Message, why *event.InvalidError) {
	if why.Event.ID == "" {
		return
	}
	r.trace.Add(trace.Record{
		Cause: r.trace.Because(m.Token, trace.Failed), Orchestrator: m.Token, Event: why.Event.ID,
		Partition: r.partition, Epoch: string(r.epoch), Sequence: m.Sequence,
		Hops: []trace.Hop{
			{At: m.Stored, Step: trace.Stored, Tier: trace.TierLog}, {At: time.Now(), Step: trace.DeadLettered, Detail: why.Error()},
		},
	})
}

// traceHops notes hops of an event, and returns false where there was no room.
func (r *run) traceHops(cause trace.Cause, m eventlog.Message, hops ...trace.Hop) bool {
	e, err := event.ParseInPlace(m.Body, len(m.Body))
	if err != nil || m.Token.Reserved() {
		return true
	}
	all := make([]trace.Hop, 0, len(hops)+2)
	if published, ok := trace.PublishedAt(e.Timestamp); ok {
		all = append(all, published)
	}
	all = append(all, trace.Hop{At: m.Stored, Step: trace.Stored, Tier: trace.TierLog})
	return r.trace.Add(trace.Record{
		Cause: cause, Orchestrator: m.Token, Event: e.ID, Partition: r.partition, Epoch: string(r.epoch), Sequence: m.Sequence,
		Hops: append(all, hops...),
	})
}
