package bridge

import (
	"context"
	"time"

	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/quote"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func (p *pump) bury(ctx context.Context, t ticket) {
	letter := t.Value().letter()
	p.workers.Go(func() {
		err := p.store.DeadLetter(ctx, letter)
		p.results <- func() {
			if err != nil {
				p.retry(t, err)
				return
			}
			p.traceBuried(t.Value(), letter)
			p.finish(t, t.Value(), eventlog.Ack{})
		}
	})
}

// retry tries a message again later. What somebody waits for is given back
// instead, unless a few tries are to tell whether the log will ever take it.
func (p *pump) retry(t ticket, err error) {
	if j := t.Value(); j.request != nil && (j.kind == resolving || j.kind == burying || eventlog.Retryable(err)) {
		if j.kind == publishing {
			j.request.silent.note(p.partitionOf(event.TokenOf(j.event.OrchestratorID)), err)
		}
		p.fail(t, err)
		return
	}
	p.metrics.retries.Inc()
	p.faults.Do(func() {
		p.logger.Warn("a message could not be passed on and is tried again", tracing.LogOf(t.Value().event, "event", t.Value().event.ID,
			"orchestrator", t.Value().event.OrchestratorID, "failures", t.Failures()+1, "error", err)...)
	})
	p.of(t).Retry(t, time.Now())
}

// giveUp sends a message to the dead letters after all; its lane goes on.
func (p *pump) giveUp(t ticket, reason event.Reason, detail string) {
	p.moveOn(t, t.Value().bury(reason, detail))
}

// moveOn takes a message to the next thing to be done with it.
func (p *pump) moveOn(t ticket, j job) {
	was := t.Value()
	j.request, j.channel, j.at = was.request, was.channel, was.at
	if j.event.Trace == nil { // it came in a header beside the event
		j.event.Trace = was.event.Trace
	}
	if j.kind == burying {
		if j.request != nil && !j.request.bury {
			p.finish(t, j, eventlog.Ack{})
			return
		}
		p.rejected(j)
	}
	p.move(t, j)
}

func (p *pump) move(t ticket, j job) {
	p.number++
	p.of(t).Move(t, j.lane(p.number), j, len(j.body))
}

// notice counts what an event is taken without. It may be called from any goroutine.
func (p *pump) notice(e event.Event) {
	for _, field := range e.LeftOut {
		p.metrics.leftOut.Of(field).Inc()
		p.oddities.Do(func() {
			p.logger.Warn("an event is taken without a field that cannot be used",
				tracing.LogOf(e, "field", field, "event", e.ID, "orchestrator", e.OrchestratorID)...)
		})
	}
}

// rejected notes a message that goes to the dead letters. The audit log gets names
// alone: what stands there otherwise is in the letter.
func (p *pump) rejected(j job) {
	p.metrics.reject(j.reason)
	p.audit.Write(audit.EventRefused, string(j.reason), "channel", quote.Cut(j.channel), "orchestrator", quote.Cut(string(j.event.OrchestratorID)),
		"daemon", quote.Cut(string(j.event.DaemonID)), "event", quote.Cut(j.event.ID), "bytes", len(j.body))
	p.rejects.Do(func() {
		p.logger.Warn("a message goes to the dead letters", tracing.LogOf(j.event, "event", j.event.ID,
			"orchestrator", j.event.OrchestratorID, "reason", j.reason, "error", j.detail)...)
	})
}
