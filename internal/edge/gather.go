package edge

import (
	"context"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// gatherDelay is how long a question waits for others to be asked with it.
const gatherDelay = 5 * time.Millisecond

// gatherer puts the questions of many connections of one partition together:
// where does the newest event of these orchestrators stand? A reconnect storm
// of thousands costs a few requests. While one is under way, the next gathers.
type gatherer struct {
	partition event.Partition
	ask       func(ctx context.Context, p event.Partition, tokens []event.Token) ([]eventlog.Last, error)
	pool      *pool

	mu      sync.Mutex
	waiting map[event.Token][]question
	asking  bool
}

// question is answered with the newest event, or an error. An answer to a
// question that was asked before this one is never used for it.
type question func(last eventlog.Last, err error)

func (g *gatherer) add(token event.Token, q question) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == nil {
		g.waiting = make(map[event.Token][]question)
	}
	g.waiting[token] = append(g.waiting[token], q)
	if !g.asking {
		g.asking = true
		g.pool.submit(g, g.run)
	}
}

func (g *gatherer) run(ctx context.Context) {
	select {
	case <-time.After(gatherDelay):
	case <-ctx.Done():
	}
	for {
		questions := g.take()
		if questions == nil {
			return
		}
		g.askAll(ctx, questions)
	}
}

// take returns what waits; where nothing does, the gatherer is idle again.
func (g *gatherer) take() map[event.Token][]question {
	g.mu.Lock()
	defer g.mu.Unlock()
	questions := g.waiting
	g.waiting = nil
	g.asking = questions != nil
	return questions
}

func (g *gatherer) askAll(ctx context.Context, questions map[event.Token][]question) {
	tokens := make([]event.Token, 0, len(questions))
	for token := range questions {
		tokens = append(tokens, token)
	}
	lasts, err := g.ask(ctx, g.partition, tokens)
	for i, token := range tokens {
		var last eventlog.Last
		if err == nil {
			last = lasts[i]
		}
		for _, q := range questions[token] {
			q(last, err)
		}
	}
}
