package identity

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// gatherFor is how long a lookup waits for others to share its query.
	gatherFor = 2 * time.Millisecond
	maxBatch  = 1000
	// concurrentQueries leaves most of the node's connections to others.
	concurrentQueries = 2
	queryTimeout      = 2 * time.Second
)

// Run asks PostgreSQL for what lookups wait for, until ctx ends. Lookups then
// are answered from the cache alone.
func (r *Resolver) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range concurrentQueries {
		workers.Go(func() { r.work(ctx) })
	}
	workers.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	for _, l := range r.waiting {
		r.answerLocked(l, Answer{Err: errStopped})
	}
	r.queue = nil
	return nil
}

func (r *Resolver) work(ctx context.Context) {
	gather := time.NewTimer(0)
	defer gather.Stop()
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		gather.Reset(gatherFor)
		select {
		case <-gather.C:
		case <-ctx.Done():
			return
		}
		if batch := r.take(); len(batch) > 0 {
			r.lookUp(ctx, batch)
		}
	}
}

// take removes the next batch from the queue, and has another worker see to the
// rest.
func (r *Resolver) take() []*lookup {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.queue), maxBatch)
	batch := slices.Clone(r.queue[:n])
	r.queue = slices.Delete(r.queue, 0, n)
	r.wakeLocked()
	return batch
}

// lookUp asks for a batch and answers all who wait for it.
func (r *Resolver) lookUp(ctx context.Context, batch []*lookup) {
	ids := make([]protocol.OrchestratorID, len(batch))
	texts := make([]string, len(batch))
	for i, l := range batch {
		ids[i], texts[i] = l.id, string(l.id)
	}
	asked := time.Now()
	queryCtx, cancel := context.WithTimeout(ctx, r.timeout)
	rows, err := query(queryCtx, r.db, texts)
	cancel()
	r.metrics.queried(len(batch), time.Since(asked), err)
	if err != nil {
		r.fail(ctx, batch, err)
		return
	}
	identities := match(ids, rows)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.breaker.succeeded() {
		r.logger.Info("PostgreSQL answers for orchestrators again")
	}
	for _, l := range batch {
		identity, exists := identities[l.id]
		r.cache.put(l.id, identity, exists, asked)
		answer := Answer{Identity: identity}
		if !exists {
			answer.Err = ErrUnknown
		}
		r.answerLocked(l, answer)
	}
}

// fail answers a batch that could not be asked for, and all that wait behind
// it: they would only wait for the same.
func (r *Resolver) fail(ctx context.Context, batch []*lookup, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.breaker.failed(cause, time.Now()) && ctx.Err() == nil {
		r.logger.Log(ctx, severity(cause), "PostgreSQL cannot be asked for orchestrators", "error", cause)
	}
	for _, l := range append(batch, r.queue...) {
		r.answerLocked(l, Answer{Err: cause})
	}
	r.queue = nil
}

// severity tells what passes by itself from what somebody must mend: a table
// that is missing, or that we may not read.
func severity(cause error) slog.Level {
	var refused *pgconn.PgError
	if errors.As(cause, &refused) && strings.HasPrefix(refused.Code, "42") {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// answerLocked lets go all who wait for a lookup. mu is held.
func (r *Resolver) answerLocked(l *lookup, answer Answer) {
	l.answer = answer
	delete(r.waiting, l.id)
	close(l.done)
}
