package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

const (
	// publishTimeout is short: asked again, the log stores nothing twice.
	publishTimeout = 500 * time.Millisecond
	publishRetry   = 50 * time.Millisecond
)

// occurrence is one event and what became of it.
type occurrence struct {
	// due is when it was to be published. A publisher that is held up falls
	// behind, and its events are late from then on.
	due time.Time
	// stored is when the log has acknowledged it; zero on Redis, which does not say.
	stored time.Time
	// received is when each daemon of the orchestrator first had it.
	received []time.Time
}

// stream is the events of an orchestrator, one after the other.
type stream struct {
	orchestrator protocol.OrchestratorID
	partition    event.Partition
	onRedis      bool
	seats        []*seat

	mu     sync.Mutex
	events []occurrence
}

// publish publishes an event each interval until ctx ends, and then until the
// last one is stored, or last ends.
func (s *stream) publish(ctx, last context.Context, interval time.Duration, redis *traffic.Publisher, log *publisher.Publisher) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	next := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		// A ticker drops the ticks that nobody waited for.
		for ; !next.After(time.Now()) && ctx.Err() == nil; next = next.Add(interval) {
			e := s.begin(next)
			if s.onRedis {
				s.toRedis(last, redis, e)
			} else {
				s.toLog(last, log, e)
			}
		}
	}
}

func (s *stream) begin(due time.Time) event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.events)
	s.events = append(s.events, occurrence{due: due, received: make([]time.Time, len(s.seats))})
	return event.Event{
		ID: "e-" + strconv.Itoa(n), Type: "message.received", OrchestratorID: s.orchestrator, RequiresAck: true,
		Payload: json.RawMessage(fmt.Sprintf(`{"n": %d}`, n)), Timestamp: "2026-11-22T10:00:00.000Z",
	}
}

// toRedis publishes once; no fault here takes Redis or all bridges away.
func (s *stream) toRedis(ctx context.Context, redis *traffic.Publisher, e event.Event) {
	_, _ = redis.PublishOne(ctx, e) // what nobody has heard is missing in the end
}

// toLog publishes until the log acknowledges, as a backend should.
func (s *stream) toLog(ctx context.Context, log *publisher.Publisher, e event.Event) {
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, publishTimeout)
		_, err := log.Publish(bounded, e)
		cancel()
		if err == nil {
			s.note(e.ID, func(o *occurrence) { o.stored = time.Now() })
			return
		}
		wait(ctx, publishRetry)
	}
}

// received notes that a daemon has an event.
func (s *stream) received(seat int, id string, now time.Time) {
	s.note(id, func(o *occurrence) {
		if o.received[seat].IsZero() {
			o.received[seat] = now
		}
	})
}

func (s *stream) note(id string, f func(*occurrence)) {
	n, err := strconv.Atoi(strings.TrimPrefix(id, "e-"))
	if err != nil {
		return // no event of a stream
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < len(s.events) {
		f(&s.events[n])
	}
}

// since returns copies of the events that were due from a time on.
func (s *stream) since(from time.Time) []occurrence {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := len(s.events)
	for first > 0 && !s.events[first-1].due.Before(from) {
		first--
	}
	copies := make([]occurrence, 0, len(s.events)-first)
	for _, o := range s.events[first:] {
		o.received = append([]time.Time(nil), o.received...)
		copies = append(copies, o)
	}
	return copies
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
