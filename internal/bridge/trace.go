package bridge

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// What a bridge notes of the events that are traced. Of those that another bridge has
// brought into the log it says nothing.

func (p *pump) traceStored(t ticket, ack eventlog.Ack) {
	j := t.Value()
	if ack.Duplicate || !p.trace.On() {
		return
	}
	token, now := event.TokenOf(j.event.OrchestratorID), time.Now()
	cause := p.trace.Choose(token, ack.Partition, ack.Sequence)
	switch {
	case t.Failures() > 0:
		cause = p.trace.Because(token, trace.Repeated)
	case now.Sub(j.at) > trace.Long:
		cause = p.trace.Because(token, trace.Waited)
	}
	if cause == trace.None {
		return
	}
	p.trace.Add(trace.Record{
		Cause: cause, Orchestrator: token, Event: j.event.ID, Partition: ack.Partition, Sequence: ack.Sequence,
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
	p.trace.Add(trace.Record{
		Cause: p.trace.Because(token, trace.Waited), Orchestrator: token, Event: j.event.ID,
		Hops: append(j.heardHops(), trace.Hop{At: time.Now(), Step: trace.Kept, Detail: string(j.cause)}),
	})
}

// traceBuried notes a message that is in the dead letters, if it says whose it is.
func (p *pump) traceBuried(d eventlog.DeadLetter) {
	if d.Token == "" || d.EventID == "" {
		return
	}
	p.trace.Add(trace.Record{
		Cause: p.trace.Because(d.Token, trace.Failed), Orchestrator: d.Token, Event: d.EventID,
		Hops: []trace.Hop{{At: time.Now(), Step: trace.DeadLettered, Detail: string(d.Reason) + ": " + d.Detail}},
	})
}

// heardHops are those before a bridge does anything.
func (j job) heardHops() []trace.Hop {
	hops := make([]trace.Hop, 0, 3)
	if published, ok := trace.PublishedAt(j.event.Timestamp); ok {
		hops = append(hops, published)
	}
	return append(hops, trace.Hop{At: j.at, Step: trace.Heard})
}
