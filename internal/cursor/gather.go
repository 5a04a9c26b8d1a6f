package cursor

import (
	"context"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
)

const (
	// gatherDelay is how long the first caller waits for others, so that a
	// storm of thousands of connections costs few requests.
	gatherDelay = 3 * time.Millisecond
	// gatherMax is the most subjects that one request may name.
	gatherMax = 1000
	// readTimeout bounds one request; it goes on when the caller that sends it
	// gives up, because others wait for the same answer.
	readTimeout = 5 * time.Second
)

// fetchFunc reads the last messages of subjects; those without any are absent.
type fetchFunc func(ctx context.Context, subjects []string) (map[string]eventlog.Stored, error)

// gatherer joins the reads of concurrent callers into one request. The first
// caller of a batch sends it, so no goroutine is needed. Its methods may be
// called at the same time.
type gatherer struct {
	// Set once.
	fetch fetchFunc
	delay time.Duration // gatherDelay

	mu   sync.Mutex
	open *gathered // the batch that takes more subjects; nil: none
}

type gathered struct {
	subjects []string      // guarded by gatherer.mu until the batch is closed
	full     chan struct{} // closed when no more subjects fit
	done     chan struct{} // closed when found and err are set
	found    map[string]eventlog.Stored
	err      error
}

// read returns the last message of the subject, and false if it has none.
func (g *gatherer) read(ctx context.Context, subject string) (eventlog.Stored, bool, error) {
	batch, first := g.join(subject)
	if first {
		g.send(ctx, batch)
	}
	select {
	case <-batch.done:
	case <-ctx.Done():
		return eventlog.Stored{}, false, ctx.Err()
	}
	stored, ok := batch.found[subject]
	return stored, ok, batch.err
}

// join adds the subject to the open batch; first tells the caller to send it.
func (g *gatherer) join(subject string) (batch *gathered, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if first = g.open == nil; first {
		g.open = &gathered{full: make(chan struct{}), done: make(chan struct{})}
	}
	batch = g.open
	batch.subjects = append(batch.subjects, subject)
	if len(batch.subjects) == gatherMax {
		g.open = nil
		close(batch.full)
	}
	return batch, first
}

// send waits for the batch to fill, closes it and asks.
func (g *gatherer) send(ctx context.Context, batch *gathered) {
	timer := time.NewTimer(g.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-batch.full:
	}
	g.mu.Lock()
	if g.open == batch {
		g.open = nil
	}
	g.mu.Unlock()
	defer close(batch.done)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	batch.found, batch.err = g.fetch(ctx, batch.subjects)
}
