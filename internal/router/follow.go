package router

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// errStoodStill ends a consumer that yields nothing while the log grows.
var errStoodStill = errors.New("the consumer yields nothing while the partition grows")

// healthy is for how long a consumer must have worked for its next failure to
// be retried almost at once.
const healthy = 10 * time.Second

// firstFollowRetry and longestFollowRetry, up to which it doubles, are short
// because live delivery waits for them. The first is not zero: a lost
// connection takes a moment to come back.
const (
	firstFollowRetry   = 20 * time.Millisecond
	longestFollowRetry = 500 * time.Millisecond
)

// follow keeps a consumer of the run's own on the partition, contiguous over
// its restarts: each begins behind the last message that was handed on.
func (r *run) follow(ctx context.Context) error {
	delay := firstFollowRetry
	for {
		began := time.Now()
		err := r.verify(ctx)
		if err == nil {
			err = r.followOnce(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errEpochChanged) {
			return err
		}
		cause := resetFailed
		if errors.Is(err, errStoodStill) {
			cause = resetStood
		}
		r.metrics.resets.Of(cause).Inc()
		r.logger.Warn("consumer ended, making another one", "from", r.fed.Load()+1, "error", err)
		if time.Since(began) > healthy {
			delay = firstFollowRetry
		}
		if !lifecycle.Sleep(ctx, delay) {
			return nil
		}
		delay = min(2*delay, longestFollowRetry)
		// It may have ended because the stream was rolled back, or deleted. Not
		// before the pause: looking creates a missing stream, and a NATS server
		// that is still deleting the old one makes a new one that never answers.
		r.kick()
	}
}

func (r *run) followOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.beginConsumer(cancel)
	defer r.beginConsumer(nil)
	verified := false
	err := r.log.Follow(ctx, r.partition, r.fed.Load()+1, func(m eventlog.Message) error {
		// It may have taken long to make the consumer, and the stream may be another
		// one by now.
		if !verified {
			if err := r.verify(ctx); err != nil {
				return err
			}
			verified = true
		}
		select {
		case r.events <- m:
			r.noteFed(m)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}, eventlog.PullBatch(r.cfg.FetchBatch))
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// beginConsumer notes how the consumer that begins now is ended; nil: none is
// under way any more.
func (r *run) beginConsumer(cancel context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reset, r.began = cancel, time.Time{}
	if cancel != nil {
		r.began = time.Now()
	}
}

// consumerBegan returns since when there is a consumer; zero: there is none.
func (r *run) consumerBegan() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.began
}

// resetConsumer ends the consumer under way, so that follow makes a new one.
func (r *run) resetConsumer(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reset != nil {
		r.reset(cause)
	}
}

// moveTries is how often an event is published to its own partition, each within
// 2 s, before the dead letters may have it.
const moveTries = 3

// storeLetters stores what the lane refused, one after the other.
func (r *run) storeLetters(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case letter := <-r.letters:
			err := r.store(ctx, letter)
			r.tell(func(l *lane.Lane) { l.DeadLettered(letter.Message.Sequence, err == nil) })
		}
	}
}

func (r *run) store(ctx context.Context, letter lane.DeadLetter) error {
	m, found := letter.Message, letter.Invalid.Event
	if letter.Invalid.Reason == event.ReasonWrongPartition && r.moveHome(ctx, m, found.ID) {
		return nil
	}
	err := r.log.DeadLetter(ctx, eventlog.DeadLetter{
		Reason: letter.Invalid.Reason, Token: m.Token, EventID: found.ID, Daemon: found.DaemonID,
		Detail: letter.Invalid.Error(), Sequence: m.Sequence, Epoch: r.epoch, Body: m.Body,
	})
	r.metrics.deadLettered(err)
	if err != nil {
		r.logger.Warn("dead letter not stored, trying again", "orchestrator", string(m.Token), "error", err)
		return err
	}
	r.traceRefused(m, letter.Invalid)
	r.logger.Debug("event refused", m.Trace.Log("orchestrator", string(m.Token), "event", found.ID, "error", letter.Invalid)...)
	return nil
}

// moveHome stores an event that stands in another partition than its
// orchestrator's where it belongs, and reports whether it is there. What it
// cannot move is for the dead letters: it must not hold up the partition. What comes
// behind waits meanwhile, so that events move in order.
func (r *run) moveHome(ctx context.Context, m eventlog.Message, id string) bool {
	var err error
	traced := tracing.With(ctx, m.Trace)
	for try := 1; ; try++ {
		if err = r.bringHome(traced, m, id); !r.movesAgain(ctx, try, err) {
			break
		}
	}
	r.metrics.count(eventMoved, statusOf(err), 1)
	if err != nil {
		r.logger.Warn("event in another partition than its orchestrator's not moved",
			m.Trace.Log("orchestrator", string(m.Token), "event", id, "error", err)...)
		return false
	}
	r.misplaced.Do(func() {
		r.logger.Warn("moved an event to its orchestrator's partition: its publisher assumes another number of partitions",
			m.Trace.Log("orchestrator", string(m.Token), "event", id)...)
	})
	return true
}

// headBytes bounds what is read to find an event at home, where heads alone cannot be
// asked for.
const headBytes = 16 << 20

// bringHome stores an event where it belongs, unless it is there. The log itself knows
// that for as long as it recognizes duplicates; a partition that starts from its oldest
// event, as in a new epoch, comes to what was moved days ago once more.
func (r *run) bringHome(ctx context.Context, m eventlog.Message, id string) error {
	if time.Since(m.Stored) > r.cfg.Log.DuplicateWindow/2 {
		if known, err := r.knownAtHome(ctx, m, id); known || err != nil {
			return err
		}
	}
	_, err := r.log.Publish(ctx, m.Token, id, m.Body)
	return err
}

// knownAtHome reports whether an event is where it belongs, or would be gone from there:
// it is older than all that a full store keeps, and so may have been there, and would now
// be sent as the newest (invariant 2). The two partitions' clocks may differ.
func (r *run) knownAtHome(ctx context.Context, m eventlog.Message, id string) (known bool, err error) {
	kept, oldest := int64(0), time.Time{}
	home := event.PartitionOf(m.Token, r.cfg.Log.Partitions)
	_, err = r.log.EachHead(ctx, home, m.Token, 1, headBytes, func(h eventlog.Head) {
		if kept++; kept == 1 {
			oldest = h.Stored
		}
		known = known || h.MessageID == event.MessageID(m.Token, id)
	})
	full := kept >= r.cfg.Log.EventsPerOrchestrator
	return known || full && m.Stored.Before(oldest.Add(-r.cfg.Log.DuplicateWindow)), err
}

// movesAgain reports whether to try an event once more. A partition that does not
// answer gets a leader in some seconds, mostly, and is waited for as long as there
// is room for what else is refused.
func (r *run) movesAgain(ctx context.Context, try int, err error) bool {
	if !eventlog.Retryable(err) || try < moveTries {
		return eventlog.Retryable(err)
	}
	if try == moveTries && errors.Is(err, eventlog.ErrUnavailable) {
		r.logger.Warn("event in another partition than its orchestrator's waits: that one does not answer", "error", err)
	}
	return errors.Is(err, eventlog.ErrUnavailable) && r.refused.Load() < lane.MaxRefused/2 &&
		lifecycle.Sleep(ctx, r.timing.retry)
}

// keep saves the checkpoint and renews the sentinel.
func (r *run) keep(ctx context.Context) error {
	save := time.NewTicker(r.timing.checkpoint)
	defer save.Stop()
	// At the start too: a router may never live for a whole interval.
	renew := time.NewTimer(0)
	defer renew.Stop()
	var saved eventlog.Checkpoint
	var at time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-save.C:
			checkpoint := r.toSave()
			if checkpoint == saved && now.Sub(at) < r.timing.unchanged {
				continue
			}
			if r.save(ctx, checkpoint) {
				saved, at = checkpoint, now
			}
		case <-renew.C:
			renew.Reset(r.renewSentinel(ctx))
		}
	}
}

// renewSentinel returns when to renew it next: daily, not all at once.
func (r *run) renewSentinel(ctx context.Context) time.Duration {
	if err := r.log.RenewSentinel(ctx, r.partition); err != nil {
		r.logger.Debug("sentinel not renewed, trying again", "error", err)
		return time.Minute
	}
	return r.timing.sentinel/2 + rand.N(r.timing.sentinel/2)
}

// toSave returns the lane's checkpoint as it was last seen.
func (r *run) toSave() eventlog.Checkpoint {
	return eventlog.Checkpoint{Epoch: r.epoch, Sequence: r.checkpoint.Load(), Seen: r.seen()}
}

func (r *run) save(ctx context.Context, c eventlog.Checkpoint) bool {
	err := r.log.SaveCheckpoint(ctx, r.partition, c)
	if ctx.Err() != nil && err != nil {
		return false
	}
	r.metrics.checkpoints.Of(statusOf(err)).Inc()
	if err != nil {
		r.logger.Debug("checkpoint not saved, trying again", "error", err)
	}
	return err == nil
}
