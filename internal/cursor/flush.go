package cursor

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// outageAfter is how many writes in a row have to fail before NATS is taken to
// be away. One record is tried at a time from then on, until one is written.
const outageAfter = 8

// outage is whether NATS seems to be away.
type outage struct {
	failures atomic.Int64 // in a row
	trying   atomic.Bool
}

func (o *outage) lasts() bool { return o.failures.Load() >= outageAfter }

// note counts an error that speaks of NATS, not of one record. It reports
// whether writing begins to fail, or works again.
func (o *outage) note(err error) (began, ended bool) {
	switch {
	case err == nil:
		return false, o.failures.Swap(0) >= outageAfter
	case isFinal(err):
		return false, false
	}
	return o.failures.Add(1) == outageAfter, false
}

// Run writes what Writers report until ctx ends: what is due at its moment of
// the second, and last words at once. What is dirty then is not written any
// more: call FlushAll before.
func (s *Store) Run(ctx context.Context) error {
	ticker := time.NewTicker(saveInterval / moments)
	defer ticker.Stop()
	var writes errgroup.Group
	defer func() { _ = writes.Wait() }() // each write was accounted for
	writes.SetLimit(maxWriting)
	start, moment := time.Now(), 0
	for {
		var due []event.Token
		select {
		case <-ctx.Done():
			return nil
		case <-s.schedule.wake:
			due = s.schedule.takeHurried()
		case <-ticker.C:
			now := int(time.Since(start) / (saveInterval / moments))
			for moment = max(moment, now-moments); moment < now; moment++ {
				due = append(due, s.schedule.take(moment)...)
			}
		}
		for _, token := range due {
			s.writeDue(ctx, &writes, token)
		}
	}
}

// writeDue lets a record be written side by side with others, as many as there
// is room for; while NATS is away, one.
func (s *Store) writeDue(ctx context.Context, writes *errgroup.Group, token event.Token) {
	lone := s.outage.lasts()
	if lone && !s.outage.trying.CompareAndSwap(false, true) {
		s.schedule.add(token)
		return
	}
	writes.Go(func() error {
		if lone {
			defer s.outage.trying.Store(false)
		}
		err := s.flush(ctx, token)
		if ctx.Err() != nil {
			return nil
		}
		switch began, ended := s.outage.note(err); {
		case began:
			s.logger.Warn("cursors cannot be written, they are kept in memory", "dirty", s.dirty(), "error", err)
		case ended:
			s.logger.Info("cursors are written again")
		case isFinal(err):
			s.logger.Error("cursors of an orchestrator cannot be written", "orchestrator", token, "error", err)
		}
		return nil
	})
}

// flush writes what is to be written of an orchestrator. It tries once, apart
// from conflicts; if it fails, that stays remembered and is tried again.
func (s *Store) flush(ctx context.Context, token event.Token) error {
	p := s.partition(token)
	if !p.isKept(token) {
		return nil
	}
	k, err := p.acquire(ctx, token)
	if err != nil {
		s.schedule.add(token)
		return fmt.Errorf("flush the cursors of %s: %w", token, err)
	}
	defer p.release(token, k)
	var wait backoff
	for {
		err := s.attempt(ctx, p, token, k, func(rec Record) (Record, bool) { return rec, true }, func(*key) {})
		if err == nil {
			return nil
		}
		if isFinal(err) {
			return fmt.Errorf("flush the cursors of %s: %w", token, err) // tried again when there is more
		}
		if !isConflict(err) {
			s.schedule.add(token)
			return fmt.Errorf("flush the cursors of %s: %w", token, err)
		}
		if end := wait.sleep(ctx, true); end != nil {
			return fmt.Errorf("flush the cursors of %s: %w", token, errors.Join(end, err))
		}
	}
}

// FlushAll writes all that there is to write, and tries again until it has
// succeeded or ctx ends; its error then says how much is left. It waits for
// writes under way.
func (s *Store) FlushAll(ctx context.Context) error {
	var wait backoff
	for {
		err := s.flushDirty(ctx)
		left := s.dirty()
		if err == nil && left == 0 {
			return nil
		}
		if end := wait.sleep(ctx, err == nil); end != nil {
			return fmt.Errorf("flush cursors: %d orchestrators left: %w", left, errors.Join(end, err))
		}
	}
}

// flushDirty writes each dirty record once, many side by side, until one fails.
func (s *Store) flushDirty(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxWriting)
	for _, p := range s.partitions {
		for _, token := range p.dirtyTokens() {
			if ctx.Err() != nil {
				break
			}
			group.Go(func() error { return s.flush(ctx, token) })
		}
	}
	return group.Wait()
}
