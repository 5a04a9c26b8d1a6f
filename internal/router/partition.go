package router

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// partition is one that this router serves: one run after the other, each with
// an epoch of its own.
type partition struct {
	*routing
	id      event.Partition
	current atomic.Pointer[run]
	// leave asks for a graceful end; done is closed after it.
	leave context.CancelFunc
	done  chan struct{}
	// leaveAt is when to leave, once another router is to have the partition.
	leaveAt time.Time
}

// serve starts to serve a partition until leave is called, or base ends.
func serve(base context.Context, routing *routing, id event.Partition) *partition {
	stop, leave := context.WithCancel(base)
	p := &partition{routing: routing, id: id, leave: leave, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer leave()
		p.work(stop, base)
	}()
	return p
}

func (p *partition) work(stop, base context.Context) {
	name := label(p.id)
	p.metrics.owned.WithLabelValues(name).Set(1)
	defer func() {
		p.metrics.owned.WithLabelValues(name).Set(0)
		p.metrics.bytes.DeleteLabelValues(name)
		p.metrics.limit.DeleteLabelValues(name)
		p.metrics.lag.DeleteLabelValues(name)
		p.metrics.lagging.DeleteLabelValues(name)
		p.metrics.refused.DeleteLabelValues(name)
	}()
	delay := p.timing.retry
	for stop.Err() == nil {
		r, err := p.prepare(stop)
		if err != nil {
			if stop.Err() == nil {
				p.logger.Warn("partition cannot be started, trying again", "partition", int(p.id), "error", err)
			}
			lifecycle.Sleep(stop, delay)
			delay = min(2*delay, longestRetry)
			continue
		}
		delay = p.timing.retry
		p.current.Store(r)
		err = r.do(stop, base)
		p.current.Store(nil)
		r.logger.Info("partition left", "position", r.position.Load(), "checkpoint", r.checkpoint.Load(), "cause", err)
	}
}

// prepare finds out where to start. The checkpoint is read before the leader is
// asked, so that what it has seen is known to have been there.
func (p *partition) prepare(ctx context.Context) (*run, error) {
	c, found, err := p.log.LoadCheckpoint(ctx, p.id)
	if err != nil {
		return nil, err
	}
	mark := c.Mark()
	state, lost, err := p.examine(ctx, p.id, c.Epoch, mark)
	if err == nil && lost {
		state, err = p.rolledBack(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	start := c.Sequence
	if !found || c.Epoch != state.Epoch {
		start = p.oldest(found, state)
		mark = eventlog.Mark{Sequence: start}
	}
	r := newRun(p.routing, p.id, state.Epoch, start)
	r.mark = mark
	r.logger.Info("partition taken", "start", start, "last", state.Last, "epoch", string(state.Epoch))
	return r, nil
}

func (p *partition) rolledBack(ctx context.Context, c eventlog.Checkpoint) (eventlog.State, error) {
	if _, err := p.log.RaiseEpoch(ctx, p.id, c.Epoch); err != nil {
		return eventlog.State{}, err
	}
	p.metrics.epochs.Inc()
	p.logger.Error("partition was rolled back behind its checkpoint: starting from its oldest event",
		"partition", int(p.id), "checkpoint", c.Sequence, "seen", c.Mark().Sequence)
	return p.log.Refresh(ctx, p.id)
}

// oldest returns the position before the oldest retained event. A partition
// that never had an event is started there without being counted.
func (p *partition) oldest(found bool, state eventlog.State) uint64 {
	cause, level := replayNoCheckpoint, slog.LevelInfo
	if found {
		cause, level = replayEpoch, slog.LevelWarn
	}
	if found || state.Last > 1 { // 1 is the first sentinel
		p.metrics.replays.Of(cause).Inc()
		p.logger.Log(context.Background(), level, "starting from the partition's oldest event", "partition", int(p.id), "cause", string(cause))
	}
	return max(state.First, 1) - 1
}

// epochChanged ends a run of another epoch.
func (p *partition) epochChanged(epoch eventlog.Epoch) {
	if r := p.current.Load(); r != nil && r.epoch != epoch {
		r.kick()
	}
}

// What keeps a partition from being served.
var (
	errUnready = errors.New("waiting for the log") // it has no run yet
	errRefused = errors.New("stands still: no more refused events may wait for the dead letters")
)

func (p *partition) ready() error {
	switch r := p.current.Load(); {
	case r == nil:
		return errUnready
	case r.refused.Load() >= lane.MaxRefused:
		return errRefused
	}
	return nil
}
