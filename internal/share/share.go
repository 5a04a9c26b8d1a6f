// Package share divides what there is only so much of, such as bytes of memory,
// among holders that do not know of each other: tenants, peers, addresses.
package share

import "sync"

// Pool is an amount that holders share. Whoever takes may hold no more than
// then remains for the others: a holder alone gets half of it, a second one half
// of the rest, and so on, so that none of them, whatever it holds and for
// however long, keeps the next one out, until a half is less than that one wants.
// Where it is known who the holders are, NewWithOwn leaves none without. A Pool may
// be used concurrently.
type Pool[H comparable] struct {
	own int64 // of each holder, beside what is shared

	mu   sync.Mutex
	free int64 // of what is shared
	held map[H]int64
}

// New returns a pool of which nothing is taken.
func New[H comparable](total int64) *Pool[H] { return NewWithOwn[H](total, 0) }

// NewWithOwn returns a pool in which each holder has so much to itself, whatever the
// others hold, and a share of the rest beyond that. All together may hold what is
// shared and their own, so it is for holders whose number is known.
func NewWithOwn[H comparable](shared, own int64) *Pool[H] {
	return &Pool[H]{own: own, free: shared, held: make(map[H]int64)}
}

// Take takes n for the holder, or nothing and reports false.
func (p *Pool[H]) Take(holder H, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.fitsLocked(holder, n) {
		return false
	}
	held := p.held[holder]
	p.free -= p.shared(held+n) - p.shared(held)
	p.held[holder] = held + n
	return true
}

// Fits reports whether the holder could take n now.
func (p *Pool[H]) Fits(holder H, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fitsLocked(holder, n)
}

// fitsLocked: p.mu is held.
func (p *Pool[H]) fitsLocked(holder H, n int64) bool {
	before, after := p.shared(p.held[holder]), p.shared(p.held[holder]+n)
	return after == before || after <= p.free-(after-before)
}

// shared is how much of what a holder holds is not its own.
func (p *Pool[H]) shared(held int64) int64 { return max(0, held-p.own) }

// Give returns n of what the holder has taken.
func (p *Pool[H]) Give(holder H, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.held[holder]
	p.free += p.shared(held) - p.shared(held-n)
	if p.held[holder] = held - n; held == n {
		delete(p.held, holder)
	}
}
