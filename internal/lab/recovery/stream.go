package recovery

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// publishTimeout is short: asked again, the log stores nothing twice.
	publishTimeout = 500 * time.Millisecond
	publishRetry   = 50 * time.Millisecond
)

// delivery is one event and what became of it.
type delivery struct {
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
	way          traffic.Way
	daemons      []*daemon

	mu         sync.Mutex
	deliveries []delivery
}

// newStream makes the i-th stream; those of even number are published on Redis.
func newStream(i, partitions int) *stream {
	s := &stream{orchestrator: protocol.OrchestratorID(fmt.Sprintf("vp_%d", i)), way: traffic.Way(i % 2)}
	s.partition = event.PartitionOf(event.TokenOf(s.orchestrator), partitions)
	return s
}

// author publishes an event each interval. On Redis it does so once: no fault
// here takes Redis or all bridges away, and what nobody has heard is missing in
// the end.
func (s *stream) author(interval, delay time.Duration) traffic.Author {
	return traffic.Author{Way: s.way, Every: interval, Delay: delay, Next: s.next, CatchUp: true}
}

func (s *stream) next(due time.Time) event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.deliveries)
	s.deliveries = append(s.deliveries, delivery{due: due, received: make([]time.Time, len(s.daemons))})
	return traffic.Message(s.orchestrator, "e-"+strconv.Itoa(n), fmt.Appendf(nil, `{"n": %d}`, n))
}

// handle notes that a daemon has an event.
func (s *stream) handle(_ context.Context, seat *traffic.Seat, e protocol.Event) error {
	now := time.Now()
	s.note(e.EventID, func(d *delivery) {
		if d.received[seat.Number].IsZero() {
			d.received[seat.Number] = now
		}
	})
	return nil
}

func (s *stream) note(id string, f func(*delivery)) {
	n, err := strconv.Atoi(strings.TrimPrefix(id, "e-"))
	if err != nil {
		return // no event of a stream
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < len(s.deliveries) {
		f(&s.deliveries[n])
	}
}

// since returns copies of what was due from a time on.
func (s *stream) since(from time.Time) []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := len(s.deliveries)
	for first > 0 && !s.deliveries[first-1].due.Before(from) {
		first--
	}
	copies := make([]delivery, 0, len(s.deliveries)-first)
	for _, d := range s.deliveries[first:] {
		d.received = slices.Clone(d.received)
		copies = append(copies, d)
	}
	return copies
}

// noteStored takes from the feed when the log had what was due from a time on.
func (r *recovery) noteStored(from time.Time) {
	streams := map[protocol.OrchestratorID]*stream{}
	for _, s := range r.streams {
		streams[s.orchestrator] = s
	}
	for _, p := range r.Feed.Since(from) {
		if p.Way == traffic.IntoLog {
			streams[p.Event.OrchestratorID].note(p.Event.ID, func(d *delivery) { d.stored = p.Taken })
		}
	}
}
