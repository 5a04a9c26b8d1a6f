package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// releaseInterval is how soon an orchestrator that is new is noticed, apart
	// from what the resolver remembers.
	releaseInterval = 2 * time.Second
	// releasesAtOnce addressees are brought into the log side by side, each in its
	// own order, and all together no faster than releaseRate events a second, so
	// that what comes in now is not slowed down by what has waited.
	releasesAtOnce = 16
	releaseRate    = 5000
	// removeAtOnce is how many events are in the log before they leave the stream
	// together: what a crash costs in publishes that the log recognizes.
	removeAtOnce = 100
	// removeTimeout bounds how long a stop may wait for that.
	removeTimeout = 3 * time.Second
	// holdPoll is how soon the stream is looked at again for what is on its way
	// there.
	holdPoll = 50 * time.Millisecond
	// listingShare bounds what listing a stream of many addressees takes of its
	// leader's time: one part in so many.
	listingShare = 20
)

// backlog is what the releaser needs of DAEMON_UNRESOLVED.
type backlog interface {
	Next(ctx context.Context, addressee event.Token, from uint64) (eventlog.Message, bool, error)
	Remove(ctx context.Context, addressee event.Token, upTo uint64) error
	Backlog(ctx context.Context) (eventlog.Backlog, error)
}

// releaser brings the events that wait in DAEMON_UNRESOLVED into the log once it
// is known whose they are, in order for each addressee, and removes what the log
// has acknowledged. Bridges may do the same work at the same time, and one may
// die in the middle of it: what is published again is stored once within the
// duplicate window.
type releaser struct {
	stream  backlog
	pump    *pump
	book    *addressBook
	limiter *rate.Limiter
	metrics *metrics
	logger  *slog.Logger
	faults  rate.Sometimes
	state   *backlogState

	nextListing time.Time // owned by Run
}

func newReleaser(stream backlog, p *pump, state *backlogState, m *metrics, logger *slog.Logger) *releaser {
	return &releaser{
		stream: stream, pump: p, book: p.book, limiter: rate.NewLimiter(releaseRate, removeAtOnce),
		metrics: m, logger: logger, faults: rate.Sometimes{First: 1, Interval: time.Minute}, state: state,
	}
}

// Run looks again and again whether what waits can go on, until ctx ends.
func (r *releaser) Run(ctx context.Context) error {
	pause := backoff{first: releaseInterval, most: releaseInterval} // for its jitter
	for {
		if err := r.pass(ctx); err != nil && ctx.Err() == nil {
			r.faults.Do(func() { r.logger.Warn("unresolved events wait on, trying again", "error", err) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause.delay(1)):
		}
	}
}

// pass asks for those who wait, in batches for as long as that finds some.
func (r *releaser) pass(ctx context.Context) error {
	if time.Now().After(r.nextListing) {
		strangers, err := r.list(ctx)
		for _, token := range strangers {
			err = errors.Join(err, r.removeStranger(ctx, token))
		}
		if err != nil {
			return err
		}
	}
	for range 1 + r.book.waiting.Len()/askAtOnce {
		found, err := r.releaseBatch(ctx, r.book.waiting.Due(time.Now(), askAtOnce))
		if err != nil {
			return err
		}
		if !found {
			break
		}
	}
	return nil
}

// list learns from the stream who waits there, and under which subjects that no
// id has. Until a bridge has done so once, it must not publish, or it might
// overtake what an earlier run has left.
func (r *releaser) list(ctx context.Context) (strangers []event.Token, err error) {
	began := time.Now()
	number := r.book.waiting.Listing()
	b, err := r.stream.Backlog(ctx)
	if err != nil {
		return nil, err
	}
	ids := make(map[protocol.OrchestratorID]struct{}, len(b.Addressees))
	for token := range b.Addressees {
		id, err := token.ID()
		if err != nil {
			strangers = append(strangers, token)
			continue
		}
		ids[protocol.OrchestratorID(id)] = struct{}{}
	}
	r.book.waiting.Listed(number, ids)
	r.state.set(b)
	r.nextListing = time.Now().Add(listingShare * time.Since(began))
	return strangers, nil
}

// errPutOff is of an addressee whose partition does not take its events now. Others may
// belong to partitions that do.
var errPutOff = errors.New("put off")

// releaseBatch releases those whose orchestrator is found.
func (r *releaser) releaseBatch(ctx context.Context, ids []protocol.OrchestratorID) (found bool, err error) {
	if len(ids) == 0 {
		return false, nil
	}
	answers := r.book.identities.ResolveMany(ctx, ids)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(releasesAtOnce)
	away := silent{}
	var mu sync.Mutex
	var failed error
	for _, id := range ids {
		answer := answers[id]
		if answer.Err != nil {
			continue
		}
		found = true
		group.Go(func() error {
			err := r.release(ctx, away, id, answer.Identity.Orchestrator)
			if errors.Is(err, eventlog.ErrUnavailable) && !errors.Is(err, errPutOff) {
				return err // the others would only wait for the same
			}
			if err != nil {
				mu.Lock()
				failed = fmt.Errorf("events for %q: %w", id, err)
				mu.Unlock()
			}
			return nil
		})
	}
	return found, errors.Join(group.Wait(), failed)
}

// release brings all that waits for an addressee into the log.
func (r *releaser) release(ctx context.Context, away silent, id, orchestrator protocol.OrchestratorID) error {
	if !r.book.waiting.Release(id) {
		return nil
	}
	empty := false
	defer func() { r.book.waiting.Finish(id, empty) }()
	token := event.TokenOf(id)
	for from := uint64(1); ; {
		quiet := r.book.waiting.Quiet(id)
		last, n, err := r.move(ctx, token, from, func(m eventlog.Message) error { return r.publish(ctx, away, id, orchestrator, m) })
		if err != nil {
			return err
		}
		switch {
		case n > 0:
			from = last + 1
		case quiet:
			empty = true
			return nil
		default: // something is on its way into the stream
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(holdPoll):
			}
		}
	}
}

// move files the next events of an addressee, in order, and removes those that
// are filed, even if ctx ends between the two.
func (r *releaser) move(ctx context.Context, token event.Token, from uint64, file func(eventlog.Message) error) (last uint64, n int, err error) {
	for n < removeAtOnce {
		var m eventlog.Message
		var ok bool
		if m, ok, err = r.stream.Next(ctx, token, from); err != nil || !ok {
			break
		}
		if err = r.limiter.Wait(ctx); err != nil {
			break
		}
		if err = file(m); err != nil {
			break
		}
		last, from = m.Sequence, m.Sequence+1
		n++
	}
	if n == 0 {
		return 0, 0, err
	}
	removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	if removeErr := r.stream.Remove(removing, token, last); err == nil {
		err = removeErr
	}
	return last, n, err
}

// publish stores an event under its orchestrator, or in the dead letters where
// it is not what a bridge has put there.
func (r *releaser) publish(ctx context.Context, away silent, given, orchestrator protocol.OrchestratorID, m eventlog.Message) error {
	e, err := event.ParseInPlace(m.Body, r.pump.maxBytes)
	var j job
	switch {
	case err != nil:
		j = buryInvalid(m.Body, err)
	case e.OrchestratorID != given:
		j = job{event: e, body: m.Body}.bury(event.ReasonWrongSubject, fmt.Sprintf("it waited for %q", given))
	default:
		j = resolvedTo(job{event: e, body: m.Body}, orchestrator, r.pump.maxBytes)
	}
	if j.event.Trace == nil && m.Trace != nil {
		j.event.Trace = &event.TraceContext{Traceparent: m.Trace.Traceparent(), Tracestate: m.Trace.State}
	}
	s, err := r.pump.settleUnless(ctx, away, j, true)
	if err != nil {
		return fmt.Errorf("%w: %w", errPutOff, err)
	}
	r.metrics.released.Of(s.outcome()).Inc()
	return nil
}

// removeStranger clears what stands under a subject that no id has.
func (r *releaser) removeStranger(ctx context.Context, token event.Token) error {
	for from := uint64(1); ; {
		last, n, err := r.move(ctx, token, from, func(m eventlog.Message) error {
			j := job{body: m.Body}.bury(event.ReasonWrongSubject, fmt.Sprintf("it waited under %q", token))
			_, err := r.pump.settle(ctx, j, true)
			return err
		})
		if err != nil || n == 0 {
			return err
		}
		from = last + 1
	}
}

// backlogState is what metrics and readiness know of the stream. It may be read
// by any goroutine.
type backlogState struct {
	most uint64 // events that are kept of one addressee
	last atomic.Pointer[backlogSum]
}

type backlogSum struct {
	events, addressees, full float64
	oldest                   time.Time // zero if none waits
}

func newBacklogState(eventsPerAddressee int64, reg prometheus.Registerer) *backlogState {
	s := &backlogState{most: uint64(eventsPerAddressee)}
	s.last.Store(&backlogSum{})
	gauge := func(name, help string, value func(backlogSum) float64) {
		metric.GaugeFunc(reg, name, help, nil, func() float64 { return value(*s.last.Load()) })
	}
	gauge("gateway_bridge_unresolved_events", "Events that wait in DAEMON_UNRESOLVED for their addressee to be known, of all bridges.",
		func(b backlogSum) float64 { return b.events })
	gauge("gateway_bridge_unresolved_addressees", "Addressees of these events.",
		func(b backlogSum) float64 { return b.addressees })
	gauge("gateway_bridge_unresolved_full_addressees", "Addressees for whom as many events wait as are kept of one: older ones may be gone.",
		func(b backlogSum) float64 { return b.full })
	gauge("gateway_bridge_unresolved_oldest_age_seconds", "How long the oldest of these events has waited; 0 if none does.",
		func(b backlogSum) float64 {
			if b.oldest.IsZero() {
				return 0
			}
			return time.Since(b.oldest).Seconds()
		})
	return s
}

func (s *backlogState) set(b eventlog.Backlog) {
	sum := backlogSum{events: float64(b.Events), addressees: float64(len(b.Addressees)), oldest: b.Oldest}
	for _, events := range b.Addressees {
		if events >= s.most {
			sum.full++
		}
	}
	s.last.Store(&sum)
}

// check tells /readyz what waits.
func (s *backlogState) check() (bool, string) {
	b := *s.last.Load()
	if b.events == 0 {
		return true, "no event waits for its addressee to be known"
	}
	return false, fmt.Sprintf("%.0f events wait for %.0f addressees to be known, the oldest since %s",
		b.events, b.addressees, b.oldest.UTC().Format(time.RFC3339))
}
