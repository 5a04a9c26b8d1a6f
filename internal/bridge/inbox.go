package bridge

import (
	"sync"
	"sync/atomic"
)

// heard is one message as Redis delivered it.
type heard struct {
	channel string
	body    []byte
}

// inbox stands between the receive loop, which must never wait, and the pump,
// which may: Redis cuts off a subscriber that reads too slowly. It is bounded;
// the oldest goes first. Its methods may be called concurrently.
type inbox struct {
	// signal has room for one: "there may be something to take, or it is closed".
	signal    chan struct{}
	maxEvents int
	maxBytes  int

	mu     sync.Mutex
	items  []heard
	bytes  int
	closed bool
}

func newInbox(maxEvents, maxBytes int) *inbox {
	return &inbox{signal: make(chan struct{}, 1), maxEvents: maxEvents, maxBytes: maxBytes}
}

// push takes a message in and returns how many older ones had to go.
func (b *inbox) push(h heard) (dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.items = append(b.items, h)
	b.bytes += len(h.body)
	for len(b.items) > 1 && (len(b.items) > b.maxEvents || b.bytes > b.maxBytes) {
		b.popLocked()
		dropped++
	}
	b.wake()
	return dropped
}

// take moves up to len(into) messages out, oldest first, and adds them to those
// that are held elsewhere. open is false once the inbox is closed and this call
// has emptied it.
func (b *inbox) take(into []heard, held *atomic.Int64) (n int, open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n < len(into) && len(b.items) > 0 {
		into[n] = b.popLocked()
		n++
	}
	held.Add(int64(n))
	if len(b.items) > 0 {
		b.wake()
	}
	return n, !b.closed || len(b.items) > 0
}

// close says that nothing more will be pushed.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.wake()
}

func (b *inbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items)
}

// size returns how many messages are here, and their bytes.
func (b *inbox) size() (messages, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items), b.bytes
}

// lenWith returns how many messages are here or held elsewhere. None is left out
// on its way.
func (b *inbox) lenWith(held *atomic.Int64) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items) + int(held.Load())
}

// popLocked removes the oldest message; b.mu is held.
func (b *inbox) popLocked() heard {
	oldest := b.items[0]
	b.items[0] = heard{} // its bytes must not live as long as the array
	b.items = b.items[1:]
	b.bytes -= len(oldest.body)
	return oldest
}

func (b *inbox) wake() {
	select {
	case b.signal <- struct{}{}:
	default:
	}
}
