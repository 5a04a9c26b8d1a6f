package bridge

import (
	"context"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// What a bridge notes of the events that are traced. Of those that another bridge has
// brought into the log it says nothing, unless it has tried the same in vain itself: then
// the answer to the try that stored it may be what was lost.

// traceBegins decides whether an event is traced, and has it published with its place
// in the trace: after the span that traceStored ends, if it is.
func (p *pump) traceBegins(ctx context.Context, token event.Token, t ticket) (context.Context, *trace.Span) {
	if p.sampler == nil || token.Reserved() {
		return ctx, nil
	}
	j := t.Value()
	if j.span != nil {
		return tracing.With(ctx, j.span.Context.After(j.span.ID)), j.span
	}
	c := p.sampler.Begin(j.event, token)
	if c == nil {
		return ctx, nil
	}
	span, next := trace.NewSpan(c, j.at)
	if span != nil {
		j.span = span
		t.Change(j)
	}
	return tracing.With(ctx, next), span
}

func (p *pump) traceStored(t ticket, span *trace.Span, ack eventlog.Ack) {
	j := t.Value()
	if ack.Duplicate && t.Failures() == 0 || !p.trace.On() {
		return
	}
	token, now := event.TokenOf(j.event.OrchestratorID), time.Now()
	cause := p.trace.Choose(token, ack.Partition, ack.Sequence, span.Of())
	switch {
	case t.Failures() > 0:
		cause = p.trace.Because(token, trace.Repeated)
	case now.Sub(j.at) > trace.Long:
		cause = p.trace.Because(token, trace.Waited)
	}
	if cause == trace.None {
		return
	}
	if span == nil {
		span, _ = trace.NewSpan(p.trace.Late(token, j.event.ID, cause), j.at)
	}
	p.trace.Add(trace.Record{
		Cause: cause, Orchestrator: token, Event: j.event.ID, Partition: ack.Partition, Sequence: ack.Sequence, Span: span,
		Hops: append(j.heardHops(), trace.Hop{At: now, Step: trace.Stored}),
	})
}

// traceKept notes an event whose addressee nobody knows. That is no failure, but
// somebody will ask where it is.
func (p *pump) traceKept(j job, duplicate bool) {
	token := event.TokenOf(j.event.OrchestratorID)
	if duplicate || !p.trace.On() {
		return
	}
	cause := p.trace.Because(token, trace.Waited)
	p.trace.Add(trace.Record{
		Cause: cause, Orchestrator: token, Event: j.event.ID, Span: p.spanOf(j, token, cause),
		Hops: append(j.heardHops(), trace.Hop{At: time.Now(), Step: trace.Kept, Detail: string(j.cause)}),
	})
}

// traceBuried notes a message that is in the dead letters, if it says whose it is.
func (p *pump) traceBuried(j job, d eventlog.DeadLetter) {
	if d.Token == "" || d.EventID == "" {
		return
	}
	cause := p.trace.Because(d.Token, trace.Failed)
	p.trace.Add(trace.Record{
		Cause: cause, Orchestrator: d.Token, Event: d.EventID, Span: p.spanOf(j, d.Token, cause),
		Hops: []trace.Hop{{At: time.Now(), Step: trace.DeadLettered, Detail: string(d.Reason) + ": " + d.Detail}},
	})
}

// spanOf is the span of an event that does not go into the log, or not yet.
func (p *pump) spanOf(j job, token event.Token, cause trace.Cause) *trace.Span {
	if p.sampler == nil || cause <= trace.Watched {
		return nil
	}
	c := p.sampler.Begin(j.event, token)
	if c == nil {
		c = p.trace.Late(token, j.event.ID, cause)
	}
	span, _ := trace.NewSpan(c, j.at)
	return span
}

// heardHops are those before a bridge does anything.
func (j job) heardHops() []trace.Hop {
	hops := make([]trace.Hop, 0, 3)
	if published, ok := trace.PublishedAt(j.event.Timestamp); ok {
		hops = append(hops, published)
	}
	return append(hops, trace.Hop{At: j.at, Step: trace.Heard})
}
