package router

import (
	"context"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// examine asks whether a partition has lost what was seen of it in an epoch. A
// leader that is behind, as one that was just elected may be for a moment, is
// given time to come as far. While nobody leads it waits, until ctx ends.
func (r *routing) examine(ctx context.Context, p event.Partition, epoch eventlog.Epoch, seen eventlog.Mark) (state eventlog.State, lost bool, err error) {
	var behind time.Time // since when the leader has answered, and was behind
	for {
		state, standing, err := r.log.Compare(ctx, p, epoch, seen)
		switch {
		case ctx.Err() != nil:
			return state, false, context.Cause(ctx)
		case err != nil:
			behind = time.Time{}
		case standing != eventlog.Behind:
			return state, standing == eventlog.RolledBack, nil
		case behind.IsZero():
			behind = time.Now()
		case time.Since(behind) >= r.timing.rollback:
			return state, true, nil
		}
		if !lifecycle.Sleep(ctx, r.timing.retry) {
			return state, false, context.Cause(ctx)
		}
	}
}

func (r *run) noteFed(m eventlog.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.Sequence >= r.mark.Sequence {
		r.mark = eventlog.Mark{Sequence: m.Sequence, Stored: m.Stored}
	}
	r.fed.Store(m.Sequence)
}

// seen is the newest message known of the partition, of which a run that begins
// at a checkpoint knows before it is fed.
func (r *run) seen() eventlog.Mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mark
}

// verify returns errEpochChanged unless the partition still is what this run
// has been following. It raises the epoch of one that was rolled back: sequences
// will be used again, and positions mean nothing any more.
//
// It comes before each consumer, and again before the first message of one is
// fed, which takes the place of the one by which a rollback is found out.
func (r *run) verify(ctx context.Context) error {
	r.verifying.Lock()
	defer r.verifying.Unlock()
	seen := r.seen()
	state, lost, err := r.examine(ctx, r.partition, r.epoch, seen)
	switch {
	case err != nil:
		return err
	case state.Epoch != r.epoch:
		return errEpochChanged
	case !lost:
		return nil
	}
	epoch, err := r.log.RaiseEpoch(ctx, r.partition, r.epoch)
	if err != nil {
		return err
	}
	r.metrics.epochs.Inc()
	r.logger.Error("partition was rolled back: starting from its oldest event", "seen", seen.Sequence, "epoch", string(epoch))
	return errEpochChanged
}
