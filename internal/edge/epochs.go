package edge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// refreshInterval is the least time between two questions to the leader of a
// partition: during a change of epoch every connection asks for one. An answer
// counts for as long, and not longer: the log may be rolled back at any time,
// which a connection to another server of the cluster does not notice.
const refreshInterval = time.Second

// rollbackAfter is how long a partition's leaders must be behind a cursor before
// the log counts as rolled back: one that was just elected may be for a moment.
const rollbackAfter = 5 * time.Second

// epochKeeper remembers what the leaders said last of their partitions.
type epochKeeper struct {
	log        *eventlog.Log
	partitions []partitionState
}

type partitionState struct {
	wanted atomic.Bool // a question is on its way

	mu    sync.Mutex // held during the question, so that there is one at a time
	asked time.Time  // and answered
	state eventlog.State
	vain  time.Time         // when a question was last given up
	ahead eventlog.Position // the cursor that the log has not reached; zero: there is none
	since time.Time         // when that was seen first
}

func newEpochKeeper(log *eventlog.Log) *epochKeeper {
	return &epochKeeper{log: log, partitions: make([]partitionState, log.Config().Partitions)}
}

// want reports whether the caller is to call refresh, because nobody is about to:
// each event of an epoch that an edge does not know asks for one.
func (k *epochKeeper) want(p event.Partition) bool { return !k.partitions[p].wanted.Swap(true) }

// refresh asks the leader, unless that was done a moment ago, and reports the
// epoch.
func (k *epochKeeper) refresh(ctx context.Context, p event.Partition, report func(event.Partition, eventlog.Epoch)) {
	ps := &k.partitions[p]
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.wanted.Store(false) // not before: who waits for a leader that is silent is enough
	if time.Since(ps.asked) < refreshInterval {
		return
	}
	if k.askLocked(ctx, ps, p) {
		report(p, ps.state.Epoch)
	}
}

// reached reports whether the log has come as far as the position. What the
// leader said a moment ago is enough where it had already reached it.
func (k *epochKeeper) reached(ctx context.Context, pos eventlog.Position) bool {
	ps := &k.partitions[pos.Partition]
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.reachedLocked(pos) {
		return true
	}
	return ps.mayAskLocked() && k.askLocked(ctx, ps, pos.Partition) && ps.reachedLocked(pos)
}

// reachedLocked: ps.mu is held.
func (ps *partitionState) reachedLocked(pos eventlog.Position) bool {
	return time.Since(ps.asked) < refreshInterval && ps.state.Epoch == pos.Epoch && pos.Sequence <= ps.state.Last
}

// mayAskLocked reports whether nobody has just waited in vain for the leader,
// while others waited for the lock. ps.mu is held.
func (ps *partitionState) mayAskLocked() bool { return time.Since(ps.vain) >= refreshInterval }

// covers reports whether the log has come as far as a cursor, or a session. One that
// it does not reach for rollbackAfter was kept when the log was rolled back, which happens when
// all servers lose power before they have synced: what is stored from now on would
// be taken for what the cursor has settled. So a new epoch begins.
func (k *epochKeeper) covers(ctx context.Context, cursor eventlog.Position) bool {
	ps := &k.partitions[cursor.Partition]
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.reachedLocked(cursor) {
		return true
	}
	if !ps.mayAskLocked() || !k.askLocked(ctx, ps, cursor.Partition) || ps.state.Epoch != cursor.Epoch {
		return false
	}
	switch {
	case ps.reachedLocked(cursor):
		return true
	case ps.ahead.Epoch != cursor.Epoch:
		ps.ahead, ps.since = cursor, time.Now()
	case time.Since(ps.since) >= rollbackAfter:
		// Where this fails, the next start tries again.
		_, _ = k.log.RaiseEpoch(ctx, cursor.Partition, cursor.Epoch)
	}
	return false
}

// askLocked asks the leader. ps.mu is held.
func (k *epochKeeper) askLocked(ctx context.Context, ps *partitionState, p event.Partition) bool {
	state, err := k.log.Refresh(ctx, p)
	if err != nil {
		ps.vain = time.Now()
		return false // counted by the log; asked again when it matters again
	}
	ps.asked, ps.state = time.Now(), state
	if ps.reachedLocked(ps.ahead) {
		ps.ahead = eventlog.Position{}
	}
	return true
}
