package lifecycle

import (
	"slices"
	"sync"
)

// maxIdle is how many goroutines a crew keeps that have nothing to do.
const maxIdle = 64

// Crew runs functions side by side in goroutines that it uses again. A new one
// begins with a small stack, and to make it larger, more than once, costs more
// than many a function. Who gives it a function knows when that has ended. The
// zero Crew is ready to use; a nil one has no goroutine twice. Its methods may be
// called at any time.
type Crew struct {
	mu     sync.Mutex
	idle   []chan func() // of those that wait; the one that came last is used first
	closed bool
}

// Go runs f soon, beside its caller.
func (c *Crew) Go(f func()) {
	if c == nil {
		go f()
		return
	}
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		next := c.idle[n-1]
		c.idle = slices.Delete(c.idle, n-1, n)
		c.mu.Unlock()
		next <- f
		return
	}
	c.mu.Unlock()
	go c.work(f)
}

func (c *Crew) work(f func()) {
	next := make(chan func(), 1)
	for f != nil {
		f()
		if !c.wait(next) {
			return
		}
		f = <-next // nil: the crew is dismissed
	}
}

// wait takes a goroutine among the idle ones, if it is to be kept.
func (c *Crew) wait(next chan func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxIdle {
		return false
	}
	c.idle = append(c.idle, next)
	return true
}

// Dismiss ends the goroutines that have nothing to do, now and later.
func (c *Crew) Dismiss() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, next := range c.idle {
		close(next)
	}
	c.idle = nil
}
