// Package latest is the queue of what has to be written somewhere that may be
// away: it holds the newest value of each key, within a bound, and forgets the
// oldest beyond it.
package latest

import (
	"container/list"
	"sync"
)

// overhead is what the queue itself needs for an entry, in bytes.
const overhead = 200

// Entry is what was put for a key. Neither changes; a newer value of the key is
// another Entry.
type Entry[K comparable, V any] struct {
	Key   K
	Value V
	bytes int
}

// Queue holds entries in the order in which they were put. Its methods may be
// called concurrently; none waits for anything.
type Queue[K comparable, V any] struct {
	maxBytes int

	mu      sync.Mutex
	bytes   int                 // guarded by mu, as all below
	entries map[K]*list.Element // of order
	order   list.List           // of *Entry[K, V], the one put last at the back
}

// New returns an empty queue for about maxBytes.
func New[K comparable, V any](maxBytes int) *Queue[K, V] {
	return &Queue[K, V]{maxBytes: maxBytes, entries: make(map[K]*list.Element)}
}

// Put adds a value of about so many bytes; it replaces the one that the key has.
// It returns how many others it had to drop, the oldest.
func (q *Queue[K, V]) Put(key K, value V, bytes int) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.removeLocked(q.entries[key])
	e := &Entry[K, V]{Key: key, Value: value, bytes: bytes + overhead}
	q.entries[key] = q.order.PushBack(e)
	q.bytes += e.bytes
	for q.bytes > q.maxBytes && q.order.Len() > 1 {
		q.removeLocked(q.order.Front())
		dropped++
	}
	return dropped
}

// removeLocked takes out an element; nil is none. mu is held.
func (q *Queue[K, V]) removeLocked(element *list.Element) {
	if element == nil {
		return
	}
	e := q.order.Remove(element).(*Entry[K, V])
	delete(q.entries, e.Key)
	q.bytes -= e.bytes
}

// Oldest returns up to n entries, which stay in the queue.
func (q *Queue[K, V]) Oldest(n int) []*Entry[K, V] {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]*Entry[K, V], 0, min(n, q.order.Len()))
	for element := q.order.Front(); element != nil && len(out) < n; element = element.Next() {
		out = append(out, element.Value.(*Entry[K, V]))
	}
	return out
}

// Remove takes an entry out, unless it has been replaced or dropped meanwhile.
func (q *Queue[K, V]) Remove(e *Entry[K, V]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if element := q.entries[e.Key]; element != nil && element.Value == e {
		q.removeLocked(element)
	}
}

// Requeue puts an entry behind all others, unless it has been replaced or
// dropped meanwhile.
func (q *Queue[K, V]) Requeue(e *Entry[K, V]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if element := q.entries[e.Key]; element != nil && element.Value == e {
		q.order.MoveToBack(element)
	}
}

// RemoveIf takes out the entries that a condition holds for, and returns how
// many. The condition must not call the queue.
func (q *Queue[K, V]) RemoveIf(condition func(V) bool) (removed int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for element := q.order.Front(); element != nil; {
		next := element.Next()
		if condition(element.Value.(*Entry[K, V]).Value) {
			q.removeLocked(element)
			removed++
		}
		element = next
	}
	return removed
}

// Len returns how many entries wait.
func (q *Queue[K, V]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.order.Len()
}
