package edge

import (
	"context"
	"sync"
)

// pool runs jobs with bounded concurrency. What waits is bounded by its users:
// each connection has at most one job of a kind.
type pool struct {
	ctx     context.Context // of the jobs; given once, when the pool is made
	most    int
	workers sync.WaitGroup

	mu      sync.Mutex
	running int
	waiting []func(context.Context)
	closed  bool
}

func newPool(ctx context.Context, most int) *pool { return &pool{ctx: ctx, most: most} }

// submit runs job soon; it never blocks. After close it does nothing.
func (p *pool) submit(job func(context.Context)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.running >= p.most {
		p.waiting = append(p.waiting, job)
		return
	}
	p.running++
	p.workers.Add(1)
	go func() {
		defer p.workers.Done()
		p.work(job)
	}()
}

func (p *pool) work(job func(context.Context)) {
	for job != nil {
		job(p.ctx)
		job = p.next()
	}
}

func (p *pool) next() func(context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 || p.closed {
		p.running--
		return nil
	}
	job := p.waiting[0]
	p.waiting[0] = nil
	p.waiting = p.waiting[1:]
	return job
}

// close drops what waits and returns when the running jobs have ended, which
// the end of their context hastens.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.waiting = nil
	p.mu.Unlock()
	p.workers.Wait()
}
