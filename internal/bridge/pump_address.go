package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/internal/bridge/waiting"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// askAtOnce is how many addressees are asked for together: as many as fit one
	// query.
	askAtOnce = 1000
	// maxAsking batches may be under way. One may hang on a PostgreSQL that does
	// not answer; the others are then told so at once.
	maxAsking = 4
)

// address gives an event its orchestrator. As with daemons, what is known is
// used only when the event's turn has come.
func (p *pump) address(t ticket) {
	given := t.Value().event.OrchestratorID
	if p.book.waiting.Waits(given) {
		p.join(t, causeBehind)
		return
	}
	if found, ok := p.book.identities.Cached(given); ok {
		p.pass(t, found.Orchestrator)
		return
	}
	p.questions = append(p.questions, t)
}

// ask asks for the addressees that are not remembered, many together.
func (p *pump) ask(ctx context.Context) {
	for p.asking < maxAsking && len(p.questions) > 0 {
		n := min(len(p.questions), askAtOnce)
		batch := p.questions[:n:n]
		if p.questions = p.questions[n:]; len(p.questions) == 0 {
			p.questions = nil
		}
		ids := make([]protocol.OrchestratorID, n)
		for i, t := range batch {
			ids[i] = t.Value().event.OrchestratorID
		}
		p.asking++
		p.workers.Go(func() {
			answers := p.book.identities.ResolveMany(ctx, ids)
			p.results <- func() {
				p.asking--
				for i, t := range batch {
					p.addressed(t, answers[ids[i]])
				}
			}
		})
	}
}

func (p *pump) addressed(t ticket, answer identity.Answer) {
	switch own := t.Value().own; {
	case own && errors.Is(answer.Err, identity.ErrUnknown):
		p.giveUp(t, event.ReasonUnresolvedDaemon, fmt.Sprintf("daemon %q: %v, and %q is no orchestrator",
			t.Value().event.DaemonID, errNoSession, t.Value().event.OrchestratorID))
	case own && answer.Err != nil:
		p.retry(t, answer.Err)
	case answer.Err != nil:
		p.join(t, causeOf(answer.Err))
	case p.book.waiting.Waits(t.Value().event.OrchestratorID):
		p.join(t, causeBehind)
	default:
		p.pass(t, answer.Identity.Orchestrator)
	}
}

// pass lets an event go into the log.
func (p *pump) pass(t ticket, orchestrator protocol.OrchestratorID) {
	given := t.Value().event.OrchestratorID
	j := resolvedTo(t.Value(), orchestrator, p.maxBytes)
	if j.kind == publishing {
		j.given = given
		p.passing[given]++
	}
	p.moveOn(t, j)
}

// passed notes that an event is no longer on its way into the log.
func (p *pump) passed(j job) {
	if j.kind != publishing || j.given == "" {
		return
	}
	if p.passing[j.given]--; p.passing[j.given] == 0 {
		delete(p.passing, j.given)
	}
}

// join puts an event behind those of its addressee that wait, but not before
// those that went ahead are in the log: it could be released before them.
func (p *pump) join(t ticket, why cause) {
	if p.passing[t.Value().event.OrchestratorID] > 0 {
		p.of(t).Retry(t, time.Now())
		return
	}
	p.book.waiting.Join(t.Value().event.OrchestratorID)
	p.move(t, t.Value().wait(why))
}

// keep stores an event in DAEMON_UNRESOLVED, unless it has become known where it
// belongs. While what waits there is being brought into the log it holds.
func (p *pump) keep(ctx context.Context, t ticket) {
	j := t.Value()
	given := j.event.OrchestratorID
	found, known := p.book.identities.Cached(given)
	switch p.book.waiting.Turn(given, known, p.passing[given] > 0) {
	case waiting.Direct:
		p.pass(t, found.Orchestrator)
	case waiting.Hold:
		p.of(t).Retry(t, time.Now())
	case waiting.Store:
		// It may have come in a header beside the event, which nobody has later.
		if c, traced := tracing.Parse(j.event.Traceparent(), j.event.Tracestate()); traced {
			ctx = tracing.With(ctx, &c)
		}
		p.workers.Add(1)
		p.book.unresolved.KeepAsync(ctx, event.TokenOf(given), j.event.ID, j.body, func(duplicate bool, err error) {
			p.results <- func() { p.kept(t, duplicate, err) }
			p.workers.Done()
		})
	}
}

func (p *pump) kept(t ticket, duplicate bool, err error) {
	given := t.Value().event.OrchestratorID
	if err == nil {
		p.book.waiting.Stored(given)
		p.metrics.kept(t.Value().cause, duplicate)
		p.traceKept(t.Value(), duplicate)
		p.finish(t, t.Value(), eventlog.Ack{Duplicate: duplicate})
		return
	}
	p.book.waiting.NotStored(given)
	if eventlog.Refused(err) {
		p.book.waiting.Leave(given)
		p.giveUp(t, event.ReasonRefused, err.Error())
		return
	}
	p.retry(t, err)
}
