// Package share divides what there is only so much of, such as bytes of memory,
// among holders that do not know of each other: tenants, peers, addresses.
package share

import "sync"

// Pool is an amount that holders share. Whoever takes may hold no more than
// then remains for the others: a holder alone gets half of it, a second one half
// of the rest, and so on, so that none of them, whatever it holds and for
// however long, keeps the next one out. A Pool may be used concurrently.
type Pool[H comparable] struct {
	mu   sync.Mutex
	free int64
	held map[H]int64
}

// New returns a pool of which nothing is taken.
func New[H comparable](total int64) *Pool[H] {
	return &Pool[H]{free: total, held: make(map[H]int64)}
}

// Take takes n for the holder, or nothing and reports false.
func (p *Pool[H]) Take(holder H, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.fitsLocked(holder, n) {
		return false
	}
	p.free -= n
	p.held[holder] += n
	return true
}

// Fits reports whether the holder could take n now.
func (p *Pool[H]) Fits(holder H, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fitsLocked(holder, n)
}

// fitsLocked: p.mu is held.
func (p *Pool[H]) fitsLocked(holder H, n int64) bool { return p.held[holder]+n <= p.free-n }

// Give returns n of what the holder has taken.
func (p *Pool[H]) Give(holder H, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free += n
	if p.held[holder] -= n; p.held[holder] == 0 {
		delete(p.held, holder)
	}
}
