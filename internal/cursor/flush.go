package cursor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// maxRoundFailures ends a round of writes early: NATS is away, and what is
// dirty stays so until the next round.
const maxRoundFailures = 8

// Run writes what has been saved, once a second, until ctx ends. What is dirty
// then is not written any more: call FlushAll before.
func (s *Store) Run(ctx context.Context) error {
	ticker := time.NewTicker(saveInterval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := s.flushDirty(ctx)
		if ctx.Err() == nil && failing != (err != nil) {
			failing = err != nil
			s.logOutage(err)
		}
	}
}

// logOutage says when writing begins to fail and when it works again.
func (s *Store) logOutage(err error) {
	if err != nil {
		s.logger.Warn("cursors cannot be written, they are kept in memory", "dirty", s.dirty(), "error", err)
		return
	}
	s.logger.Info("cursors are written again")
}

// Flush writes at once what has been saved for the orchestrator. It tries once,
// apart from conflicts; if it fails, the entries stay remembered and Run tries again.
func (s *Store) Flush(ctx context.Context, token event.Token) error {
	p := s.partition(token)
	if !p.isKept(token) {
		return nil
	}
	k, err := p.acquire(ctx, token)
	if err != nil {
		return fmt.Errorf("flush the cursors of %s: %w", token, err)
	}
	defer p.release(token, k)
	var wait backoff
	for {
		err := s.flush(ctx, p, token, k)
		if err == nil {
			return nil
		}
		if !isConflict(err) {
			return fmt.Errorf("flush the cursors of %s: %w", token, err)
		}
		if end := wait.sleep(ctx, true); end != nil {
			return fmt.Errorf("flush the cursors of %s: %w", token, errors.Join(end, err))
		}
	}
}

// flush is one attempt of Flush.
func (s *Store) flush(ctx context.Context, p *partition, token event.Token, k *key) error {
	own := p.take(k)
	if len(own.entries) == 0 {
		p.stored(token, k)
		return nil
	}
	read, err := s.load(ctx, p, token, k)
	if err == nil {
		if next := own.reapply(read, defaultLimits); worthWriting(read, next) {
			err = s.write(ctx, p, token, k, next)
		}
	}
	if err != nil {
		p.putBack(k, own)
		return err
	}
	p.stored(token, k)
	return nil
}

// FlushAll writes all that has been saved, and tries again until it has
// succeeded or ctx ends; its error then says how much is left.
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

// flushDirty writes each dirty record once, many side by side, and waits for
// all. It returns one of the errors.
func (s *Store) flushDirty(ctx context.Context) error {
	var tokens []event.Token
	for _, p := range s.partitions {
		tokens = p.appendDirty(tokens)
	}
	var failed failures
	var group errgroup.Group
	group.SetLimit(maxWriting)
	for _, token := range tokens {
		if ctx.Err() != nil || failed.tooMany() {
			break
		}
		group.Go(func() error {
			if failed.tooMany() {
				return nil
			}
			err := s.Flush(ctx, token)
			failed.note(err)
			return err
		})
	}
	return group.Wait()
}

// failures counts the errors of a round that speak of NATS, not of one record. Its methods may be called at the same time.
type failures struct {
	mu    sync.Mutex
	count int
}

func (f *failures) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && !isFinal(err) {
		f.count++
	}
}

func (f *failures) tooMany() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count >= maxRoundFailures
}
