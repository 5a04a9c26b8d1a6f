package cursor

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// saveInterval is how long at most what is to be written waits: what an edge
	// that crashes forgets costs duplicates, not events.
	saveInterval = time.Second
	// moments are how many a second is divided into. Fewer would be bursts in
	// front of events, more would be requests one by one.
	moments = 32
)

// schedule says when records are written. Each orchestrator has its own moment
// of the second, so the writes are spread evenly however the acks come, and
// none waits for longer than the second. The moments belong to partitions: what
// comes for one stream at once is taken in and answered by NATS together, for
// half of what it costs one by one. Its methods may be called at the same time.
type schedule struct {
	partitions int
	seed       maphash.Seed
	wake       chan struct{} // there is something in a hurry

	mu      sync.Mutex
	due     [moments]map[event.Token]struct{}
	hurried map[event.Token]struct{}
}

func newSchedule(partitions int) *schedule {
	s := &schedule{
		partitions: partitions, seed: maphash.MakeSeed(), wake: make(chan struct{}, 1), hurried: make(map[event.Token]struct{}),
	}
	for i := range s.due {
		s.due[i] = make(map[event.Token]struct{})
	}
	return s
}

func (s *schedule) add(token event.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due[s.momentOf(token)][token] = struct{}{}
}

// momentOf is one of the moments of the orchestrator's partition: every so many
// from the partition's first one on, as there are partitions.
func (s *schedule) momentOf(token event.Token) int {
	turn := int(maphash.Comparable(s.seed, token) % moments)
	return (int(event.PartitionOf(token, s.partitions)) + s.partitions*turn) % moments
}

// hurry lets the record be written at once.
func (s *schedule) hurry(token event.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hurried[token] = struct{}{}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns what is due at a moment.
func (s *schedule) take(moment int) []event.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return drain(s.due[moment%moments])
}

func (s *schedule) takeHurried() []event.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return drain(s.hurried)
}

func drain(set map[event.Token]struct{}) []event.Token {
	if len(set) == 0 {
		return nil
	}
	tokens := make([]event.Token, 0, len(set))
	for token := range set {
		tokens = append(tokens, token)
	}
	clear(set)
	return tokens
}
