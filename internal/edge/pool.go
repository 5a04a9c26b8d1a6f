package edge

import (
	"context"
	"slices"
	"sync"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

// pool runs jobs with bounded concurrency. What waits is bounded by its users:
// each owner has a few jobs at most, and none once it is forgotten.
type pool struct {
	ctx     context.Context // of the jobs; given once, when the pool is made
	crew    *lifecycle.Crew
	most    int
	workers sync.WaitGroup

	mu      sync.Mutex
	running int
	waiting []*job
	owned   map[any][]*job // of those that wait
	dropped int            // places in waiting without a job
	closed  bool
}

// job is what waits; empty once its owner was forgotten.
type job struct {
	owner any
	run   func(context.Context)
}

func newPool(ctx context.Context, crew *lifecycle.Crew, most int) *pool {
	return &pool{ctx: ctx, crew: crew, most: most, owned: make(map[any][]*job)}
}

// submit runs a job of the owner soon; it never blocks. After close it does
// nothing.
func (p *pool) submit(owner any, run func(context.Context)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.running >= p.most {
		j := &job{owner, run}
		p.waiting = append(p.waiting, j)
		p.owned[owner] = append(p.owned[owner], j)
		return
	}
	p.running++
	p.workers.Add(1)
	p.crew.Go(func() {
		defer p.workers.Done()
		p.work(run)
	})
}

// forget drops what waits of an owner, and holds nothing of it any more.
func (p *pool) forget(owner any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dropped := p.owned[owner]
	delete(p.owned, owner)
	for _, j := range dropped {
		j.owner, j.run = nil, nil
	}
	// Their places are taken away together, so that each costs little.
	if p.dropped += len(dropped); p.dropped > len(p.waiting)/2 {
		p.waiting = slices.DeleteFunc(p.waiting, func(j *job) bool { return j.run == nil })
		p.dropped = 0
	}
}

func (p *pool) work(run func(context.Context)) {
	for run != nil {
		run(p.ctx)
		run = p.next()
	}
}

func (p *pool) next() func(context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.waiting) > 0 && !p.closed {
		j := p.waiting[0]
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		if j.run == nil {
			p.dropped--
			continue
		}
		p.disownLocked(j)
		return j.run
	}
	p.running--
	return nil
}

// disownLocked: p.mu is held.
func (p *pool) disownLocked(j *job) {
	rest := slices.DeleteFunc(p.owned[j.owner], func(x *job) bool { return x == j })
	if p.owned[j.owner] = rest; len(rest) == 0 {
		delete(p.owned, j.owner)
	}
}

// close drops what waits and returns when the running jobs have ended, which
// the end of their context hastens.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.waiting, p.owned = nil, nil
	p.mu.Unlock()
	p.workers.Wait()
}
