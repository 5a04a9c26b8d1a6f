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
	// readTimeout bounds one request; it goes on when the caller that sends it
	// gives up, because others wait for the same answer.
	readTimeout = 5 * time.Second
)

// fetchFunc reads the last messages of subjects; those without any are absent.
type fetchFunc func(ctx context.Context, subjects []string) (map[string]eventlog.Stored, error)

// gatherer joins the reads of concurrent callers into one request. While one is
// under way, the next gathers. A caller sends it for all, so no goroutine is
// needed: the first one that takes the batch's turn. Its methods may be called at
// the same time.
type gatherer struct {
	fetch fetchFunc // set once

	mu   sync.Mutex
	pace eventlog.Pace
	open *gathered // the batch that takes more subjects; nil: none
	busy bool      // some batch has the turn, or is under way
}

type gathered struct {
	subjects []string      // guarded by gatherer.mu until the batch is closed
	turn     chan struct{} // holds an element while a caller is to send the batch
	done     chan struct{} // closed when found and err are set
	found    map[string]eventlog.Stored
	err      error
}

// read returns the last message of the subject, and false if it has none.
func (g *gatherer) read(ctx context.Context, subject string) (eventlog.Stored, bool, error) {
	batch := g.join(subject)
	select {
	case <-batch.turn:
		g.send(ctx, batch)
	case <-batch.done:
	case <-ctx.Done(): // where all give up, the turn is for whoever joins next
		return eventlog.Stored{}, false, ctx.Err()
	}
	stored, ok := batch.found[subject]
	return stored, ok, batch.err
}

// join adds the subject to the open batch, whose turn it is if there is no other.
func (g *gatherer) join(subject string) *gathered {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = &gathered{turn: make(chan struct{}, 1), done: make(chan struct{})}
		g.passLocked()
	}
	g.open.subjects = append(g.open.subjects, subject)
	return g.open
}

// passLocked gives the turn to the open batch, if there is one and nobody has it.
// g.mu is held.
func (g *gatherer) passLocked() {
	if g.open != nil && !g.busy {
		g.busy = true
		g.open.turn <- struct{}{}
	}
}

// send lets the batch gather, closes it, asks, and passes the turn on.
func (g *gatherer) send(ctx context.Context, batch *gathered) {
	g.mu.Lock()
	wait := g.pace.Gather(time.Now())
	g.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	<-timer.C
	g.mu.Lock()
	g.open = nil
	g.mu.Unlock()
	defer g.sent(batch)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	batch.found, batch.err = g.fetch(ctx, batch.subjects)
}

// sent lets a batch's callers go on, and whoever gathered meanwhile ask.
func (g *gatherer) sent(batch *gathered) {
	close(batch.done)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
	g.passLocked()
}
