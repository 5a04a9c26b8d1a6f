package edge

import (
	"context"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// gatherDelay is how long the first question waits for others to be asked with it.
const gatherDelay = 5 * time.Millisecond

// gatherer puts the questions of many connections of one partition together:
// where does the newest event of these orchestrators stand? A reconnect storm
// of thousands costs a few requests. While one is under way, the next gathers.
type gatherer struct {
	partition event.Partition
	ask       func(ctx context.Context, p event.Partition, tokens []event.Token) ([]eventlog.Last, error)
	pool      *pool

	pace eventlog.Pace // of whoever runs

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

// run asks what waits. More of it gets its turn after the pool's other jobs.
func (g *gatherer) run(ctx context.Context) {
	lifecycle.Sleep(ctx, g.pace.Gather(time.Now()))
	g.askAll(ctx, g.take())
	if g.goesOn() {
		g.pool.submit(g, g.run)
	}
}

func (g *gatherer) take() map[event.Token][]question {
	g.mu.Lock()
	defer g.mu.Unlock()
	questions := g.waiting
	g.waiting = nil
	return questions
}

// goesOn reports whether more waits; where nothing does, the gatherer is idle again.
func (g *gatherer) goesOn() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asking = g.waiting != nil
	return g.asking
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
