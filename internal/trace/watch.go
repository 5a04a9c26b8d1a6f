package trace

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// maxWatches is how many may watch at a time.
	maxWatches = 16
	// watchRate bounds what one of them is told in a second, and newsRoom what waits
	// to be told to all.
	watchRate = 500
	newsRoom  = 1024
)

// Tell is called with what happens to an orchestrator, and with how many records
// were left out since the last call because there were too many. It must not block.
type Tell func(record Record, leftOut int)

// watch is somebody who is told live what happens to an orchestrator.
type watch struct {
	name    string
	until   atomic.Int64 // Unix time in nanoseconds
	limit   *rate.Limiter
	leftOut atomic.Int64
	told    Tell
}

type news struct {
	watch  *watch
	record Record
}

func (w *watch) emit(record Record) { w.told(record, int(w.leftOut.Swap(0))) }

// Watch has tell called with what happens to an orchestrator until then. Under the
// same name again it goes on for longer, or ends where that time has passed.
func (r *Recorder) Watch(name string, orchestrator event.Token, until time.Time, tell Tell) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.allWatched()
	for _, w := range all[orchestrator] {
		if w.name == name {
			w.until.Store(until.UnixNano())
			r.expireLocked(time.Now())
			return nil
		}
	}
	count := 0
	for _, list := range all {
		count += len(list)
	}
	if count >= maxWatches {
		return fmt.Errorf("%d operators trace already, which is as many as may", count)
	}
	w := &watch{name: name, limit: rate.NewLimiter(watchRate, watchRate), told: tell}
	w.until.Store(until.UnixNano())
	all = maps.Clone(all)
	if all == nil {
		all = map[event.Token][]*watch{}
	}
	all[orchestrator] = append(slices.Clip(all[orchestrator]), w)
	r.watched.Store(&all)
	r.expireLocked(time.Now())
	return nil
}

// allWatched returns the watches by orchestrator, which nobody modifies.
func (r *Recorder) allWatched() map[event.Token][]*watch {
	if all := r.watched.Load(); all != nil {
		return *all
	}
	return nil
}

func (r *Recorder) watchedBy(orchestrator event.Token) []*watch {
	all := r.watched.Load()
	if all == nil {
		return nil
	}
	return (*all)[orchestrator]
}

// expire ends the watches whose time is over, and tells the others what was left
// out, where nothing else does.
func (r *Recorder) expire(now time.Time) {
	if r.watched.Load() == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expireLocked(now)
	for _, list := range r.allWatched() {
		for _, w := range list {
			if n := int(w.leftOut.Swap(0)); n > 0 {
				w.told(Record{}, n)
			}
		}
	}
}

// expireLocked is called with mu held.
func (r *Recorder) expireLocked(now time.Time) {
	left := map[event.Token][]*watch{}
	for orchestrator, list := range r.allWatched() {
		for _, w := range list {
			if w.until.Load() > now.UnixNano() {
				left[orchestrator] = append(left[orchestrator], w)
			}
		}
	}
	if len(left) == 0 {
		r.watched.Store(nil)
		return
	}
	r.watched.Store(&left)
}

// Watches reports whether anybody watches an orchestrator.
func (r *Recorder) Watches(orchestrator event.Token) bool {
	return r != nil && r.watchedBy(orchestrator) != nil
}

// Say tells those who watch an orchestrator what happens to its connections.
func (r *Recorder) Say(orchestrator event.Token, hop Hop) {
	r.Add(Record{Cause: Watched, Orchestrator: orchestrator, Hops: []Hop{hop}})
}

// tell tells those who watch.
func (r *Recorder) tell(record Record) {
	for _, w := range r.watchedBy(record.Orchestrator) {
		if !w.limit.Allow() {
			w.leftOut.Add(1)
			continue
		}
		select {
		case r.live <- news{w, record}:
		default:
			w.leftOut.Add(1)
		}
	}
}
