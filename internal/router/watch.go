package router

import (
	"context"
	"errors"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

// watch compares the run's position with the log: every few seconds, and at
// once after a reconnect to NATS or a consumer's end, when the log may be
// another than before. It ends the run when the epoch is over.
func (r *run) watch(ctx context.Context) error {
	ticker := time.NewTicker(r.timing.watchdog)
	defer ticker.Stop()
	w := standstill{patience: r.timing.standstill}
	for {
		var again <-chan time.Time
		// Loaded before the leader is asked: its answer must not be older.
		fed := r.fed.Load()
		state, err := r.log.Refresh(ctx, r.partition)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			// NATS is away, or not ready yet. When it is, the first answer counts:
			// every event stored until then could hide that the log went back.
			r.logger.Debug("state of the partition unknown", "error", err)
			again = time.After(r.timing.retry)
		default:
			if err := r.compare(ctx, fed, state); err != nil {
				return err
			}
			began := r.consumerBegan()
			if !began.IsZero() && w.found(time.Now(), began, fed, state.Last, len(r.events) == cap(r.events)) {
				r.resetConsumer(errStoodStill)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case <-r.kicks:
		case <-ticker.C:
		}
	}
}

// kick makes watch look at once.
func (r *run) kick() {
	select {
	case r.kicks <- struct{}{}:
	default:
	}
}

// compare returns errEpochChanged when the partition is not any more what this
// run has been following.
func (r *run) compare(ctx context.Context, fed uint64, state eventlog.State) error {
	if state.Epoch != r.epoch {
		return errEpochChanged
	}
	r.metrics.fill(label(r.partition), state)
	r.last.Store(state.Last)
	if position := r.position.Load(); state.Last >= position {
		r.metrics.lag.WithLabelValues(label(r.partition)).Set(float64(state.Last - position))
	}
	if fed <= state.Last {
		return nil
	}
	err := r.verify(ctx)
	switch {
	case errors.Is(err, errEpochChanged):
		return err
	case err == nil, ctx.Err() != nil:
		return nil
	}
	r.logger.Error("partition was rolled back, and its epoch cannot be raised yet", "position", fed, "error", err)
	lifecycle.Sleep(ctx, r.timing.retry)
	r.kick()
	return nil
}

// standstill finds a consumer that yields nothing while the partition grows.
type standstill struct {
	patience time.Duration

	fed, due uint64    // fed stood still while due was in the log
	since    time.Time // since when
	given    uint64    // what was due when the consumer was last replaced
}

// found reports whether what is due has not come for too long, from a consumer
// that had so long to yield it: one that is only just being made must not be
// ended, or none would ever work. A consumer is replaced only once for the same
// sequence: what is due may have expired.
func (w *standstill) found(now, began time.Time, fed, last uint64, full bool) bool {
	if full || fed != w.fed || fed >= w.due || w.due <= w.given {
		w.fed, w.due, w.since = fed, last, now
		return false
	}
	since := w.since
	if began.After(since) {
		since = began
	}
	if now.Sub(since) < w.patience {
		return false
	}
	w.given = w.due
	return true
}
