package router

import (
	"context"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// mark identifies the last message that a run has seen: after a rollback,
// another one may stand at its sequence, but not of the same time. The zero mark
// is that of a run that has seen none.
type mark struct {
	sequence uint64
	token    event.Token
	stored   time.Time
}

func (r *run) noteFed(m eventlog.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mark = mark{m.Sequence, m.Token, m.Stored}
	r.fed.Store(m.Sequence)
}

func (r *run) lastFed() mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mark
}

// rolledBack raises the epoch of a partition that has lost messages this run
// has seen: sequences will be used again, and positions mean nothing any more.
func (r *run) rolledBack(ctx context.Context, fed uint64) error {
	lost, err := r.hasLost(ctx, fed)
	if err != nil || !lost {
		return err
	}
	epoch, err := r.log.RaiseEpoch(ctx, r.partition, r.epoch)
	if err != nil {
		r.logger.Error("partition was rolled back, and its epoch cannot be raised yet", "position", fed, "error", err)
		pause(ctx, r.timing.retry)
		r.kick()
		return nil
	}
	r.metrics.epochs.Inc()
	r.logger.Error("partition was rolled back: starting from its oldest event", "position", fed, "epoch", string(epoch))
	return errEpochChanged
}

// hasLost tells a partition that was rolled back from one whose leader is not
// up to date: one that was just elected may not have applied yet what a majority
// has stored, and one that was deposed may not know it. Such a leader is given
// time to reach what this run has seen; then that very message must be there.
func (r *run) hasLost(ctx context.Context, fed uint64) (bool, error) {
	seen := r.lastFed()
	for end := time.Now().Add(r.timing.rollback); time.Now().Before(end); {
		state, err := r.log.Refresh(ctx, r.partition)
		switch {
		case ctx.Err() != nil:
			return false, nil
		case err != nil:
			end = time.Now().Add(r.timing.rollback) // nobody leads: the time counts from the next answer
		case state.Epoch != r.epoch:
			return false, errEpochChanged
		case state.Last >= fed:
			if known, same := r.holds(ctx, seen); known {
				return !same, nil
			}
		}
		if !pause(ctx, r.timing.retry) {
			return false, nil
		}
	}
	// Also where nothing tells what stands there: duplicates rather than losses.
	return true, nil
}

// holds reports whether the partition holds a message, if a replica can say.
func (r *run) holds(ctx context.Context, m mark) (known, same bool) {
	if m.sequence == 0 {
		return true, false
	}
	page, err := r.log.Read(ctx, r.partition, m.token, m.sequence, 1, 1)
	if err != nil || len(page.Messages) == 0 {
		return false, false
	}
	found := page.Messages[0]
	return true, found.Sequence == m.sequence && found.Stored.Equal(m.stored)
}
