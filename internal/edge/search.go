package edge

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/edge/httpevents"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// What the search for acknowledged events may read of the log. A request may read
// what it asked for, the events that it names, and searchBytes of others. What is
// found out on the way is remembered, so that whoever comes again goes on from
// there; and what one orchestrator's searches read is paid for at searchPace, in
// time until its next one, from searchCredit on.
const (
	searchBytes  = 4 << 20
	searchPace   = 4 << 20 // a second
	searchCredit = 16 * time.Second
	// maxSearched bounds the orchestrators that are remembered: of each up to 2,000
	// events at 16 bytes.
	maxSearched = 1000
)

// laterError says that a request may be repeated after a while.
type laterError struct {
	message string
	wait    time.Duration
}

func (e *laterError) Error() string { return fmt.Sprintf("%s: again in %s", e.message, e.wait) }

// searches are those of all orchestrators, of each one at a time. Its methods may
// be called at the same time.
type searches struct {
	mu  sync.Mutex
	all map[event.Token]*search
}

// search is what is known of an orchestrator's events, and what that has cost.
type search struct {
	turn chan struct{} // holds an element while somebody searches

	// Owned by whoever has the turn.
	heads httpevents.Heads
	epoch eventlog.Epoch // of heads
	paid  time.Time      // until when what was read is paid for

	// Guarded by searches.mu.
	users int // who search or wait for their turn
	used  time.Time
}

func newSearches() *searches { return &searches{all: make(map[event.Token]*search)} }

// begin makes the caller the only one who searches for the orchestrator, until
// end, once its turn has come; or says when to come again.
func (s *searches) begin(ctx context.Context, token event.Token, epoch eventlog.Epoch) (*search, error) {
	one := s.enter(token, time.Now())
	select {
	case one.turn <- struct{}{}:
	case <-ctx.Done():
		s.leave(one)
		return nil, ctx.Err()
	}
	if owed := time.Until(one.paid); owed > searchCredit {
		s.end(one, 0)
		return nil, &laterError{"much has been searched for this orchestrator", owed - searchCredit}
	}
	if one.epoch != epoch {
		one.epoch, one.heads = epoch, httpevents.Heads{}
	}
	return one, nil
}

// end gives the turn on. It is told how many bytes were read.
func (s *searches) end(one *search, read int) {
	if now := time.Now(); one.paid.Before(now) {
		one.paid = now
	}
	one.paid = one.paid.Add(time.Duration(read) * time.Second / searchPace)
	<-one.turn
	s.leave(one)
}

func (s *searches) enter(token event.Token, now time.Time) *search {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[token]
	if one == nil {
		s.makeRoomLocked()
		one = &search{turn: make(chan struct{}, 1)}
		s.all[token] = one
	}
	one.users++
	one.used = now
	return one
}

func (s *searches) leave(one *search) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one.users--
}

// makeRoomLocked forgets whoever has not searched for the longest time. s.mu is
// held.
func (s *searches) makeRoomLocked() {
	for len(s.all) >= maxSearched {
		var oldest event.Token
		for token, one := range s.all {
			if one.users == 0 && (s.all[oldest] == nil || one.used.Before(s.all[oldest].used)) {
				oldest = token
			}
		}
		if s.all[oldest] == nil {
			return // all are in use: as many as there are requests
		}
		delete(s.all, oldest)
	}
}
