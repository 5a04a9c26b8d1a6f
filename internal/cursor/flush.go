package cursor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// outageAfter is how many writes of a partition in a row have to fail before
// NATS is taken to be away for it. One record is tried at a time from then on,
// until one is written.
const outageAfter = 8

// outage is whether NATS seems to be away for a partition.
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
// more: call FlushAll before. A partition that does not answer holds up no other.
func (s *Store) Run(ctx context.Context) error {
	ticker := time.NewTicker(saveInterval / moments)
	defer ticker.Stop()
	writes := make([]errgroup.Group, len(s.partitions))
	var writers sync.WaitGroup
	defer func() {
		writers.Wait()
		for i := range writes {
			_ = writes[i].Wait() // each write was accounted for
		}
	}()
	for i := range writes {
		writes[i].SetLimit(cap(s.partitions[i].writing))
	}
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
			i := s.log.Partition(token)
			if p := s.partitions[i]; p.queue(token) {
				writers.Go(func() { s.writeQueued(ctx, p, &writes[i]) })
			}
		}
	}
}

// writeQueued writes what is due of a partition until nothing is.
func (s *Store) writeQueued(ctx context.Context, p *partition, writes *errgroup.Group) {
	for {
		due := p.takeQueued()
		if due == nil {
			return
		}
		for _, token := range due {
			if ctx.Err() == nil {
				s.writeDue(ctx, p, writes, token)
			}
		}
	}
}

// writeDue lets a record be written side by side with others, as many as there
// is room for; while NATS is away, one.
func (s *Store) writeDue(ctx context.Context, p *partition, writes *errgroup.Group, token event.Token) {
	lone := p.outage.lasts()
	if lone && !p.outage.trying.CompareAndSwap(false, true) {
		s.schedule.add(token)
		return
	}
	writes.Go(func() error {
		if lone {
			defer p.outage.trying.Store(false)
		}
		err := s.flush(ctx, token)
		if ctx.Err() != nil {
			return nil
		}
		switch began, ended := p.outage.note(err); {
		case began:
			s.logger.Warn("cursors cannot be written, they are kept in memory", "bucket", p.bucket, "dirty", p.countDirty(), "error", err)
		case ended:
			s.logger.Info("cursors are written again", "bucket", p.bucket)
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
// succeeded, ctx ends, or only what no trying helps is left; its error then says
// how much that is. It waits for writes under way. Neither a partition that does
// not answer nor a record that cannot be written keeps others from being written.
func (s *Store) FlushAll(ctx context.Context) error {
	var partitions errgroup.Group
	for _, p := range s.partitions {
		partitions.Go(func() error { return s.flushPartition(ctx, p) })
	}
	if err := partitions.Wait(); err != nil {
		return fmt.Errorf("flush cursors: %d orchestrators left: %w", s.dirty(), err)
	}
	return nil
}

func (s *Store) flushPartition(ctx context.Context, p *partition) error {
	var wait backoff
	for {
		err := s.flushDirty(ctx, p)
		if isFinal(err) || err == nil && p.countDirty() == 0 {
			return err
		}
		if end := wait.sleep(ctx, err == nil); end != nil {
			return errors.Join(end, err)
		}
	}
}

// flushDirty writes each dirty record of a partition once, many side by side,
// until one fails for another reason than itself.
func (s *Store) flushDirty(ctx context.Context, p *partition) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cap(p.writing))
	var final atomic.Pointer[error]
	for _, token := range p.dirtyTokens() {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			err := s.flush(ctx, token)
			if isFinal(err) {
				final.Store(&err)
				return nil
			}
			return err
		})
	}
	err := group.Wait()
	if failed := final.Load(); err == nil && failed != nil {
		return *failed
	}
	return err
}
