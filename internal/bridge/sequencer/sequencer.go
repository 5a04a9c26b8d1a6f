// Package sequencer decides what the bridge does next with the messages it
// holds. Messages stand in lanes, one for each orchestrator; of each lane at
// most one message is being worked on, and the window bounds how many are over
// all lanes. A failed message is tried again, after a growing delay, before the
// next of its lane; the other lanes go on meanwhile.
//
// It is a pure state machine: no goroutine, no clock, no I/O. Times and results
// are handed in, so that a seeded simulation can drive it. What the work is
// (resolving, publishing, dead-lettering) only the bridge knows.
//
// A lane and its messages:
//
//	Add/Move ─▶ [waiting … waiting, head] ──Next──▶ in flight
//	                                ▲                 │ Done: leaves, the lane's next may go
//	                                └── delay ──Retry─┤
//	                        tail of another lane ◀─Move
//
// Lanes that share what they wait for, such as a partition of the log, are a group.
// Groups take turns, and one whose window is small leaves room to the others.
//
// Messages of a free lane take no place in the window, because what is done
// with them is only asking, many at once: however long the answers take, they
// hold up no other lane. They count as waiting until they are answered for.
package sequencer

import (
	"container/heap"
	"time"
)

// Config bounds a Sequencer. Every number must be at least 1.
type Config struct {
	// Window is how many messages may be worked on at once.
	Window int
	// MaxWaiting is how many messages may wait; those in the window come on top.
	MaxWaiting int
	// MaxBytes is how many bytes the waiting messages may have together.
	MaxBytes int
	// Free tells by its name which lane is free of the window; nil: none is.
	Free func(lane string) bool
	// Group tells by its name to which group a lane belongs, if it is not free;
	// nil: there is one. Each group may have a smaller window of its own:
	// SetWindow.
	Group func(lane string) int
	// Delay is how long the lane's head waits after its n-th failure in a row (from 1).
	Delay func(failures int) time.Duration
}

// Sequencer holds messages and says which one is to be worked on next. It is
// not safe for concurrent use.
type Sequencer[T any] struct {
	cfg      Config
	lanes    map[string]*lane[T]
	waiting  list[T]
	bytes    int
	inFlight int // in the window
	groups   map[int]*group[T]
	turns    []*group[T] // all groups
	turn     int         // whose lanes come next
	delayed  delayed[T]
	// Of free lanes: those that are ready, and what is in flight.
	freeReady []*lane[T]
	freeCount int
	freeBytes int
}

// New returns an empty Sequencer.
func New[T any](cfg Config) *Sequencer[T] {
	return &Sequencer[T]{cfg: cfg, lanes: map[string]*lane[T]{}, groups: map[int]*group[T]{}}
}

// Ticket stands for one message in flight. It is used once.
type Ticket[T any] struct {
	lane *lane[T]
	item *item[T]
}

// Value returns the message.
func (t Ticket[T]) Value() T { return t.item.value }

// Change replaces the message by one of the same size, which is what the ticket has from
// then on, at each try.
func (t Ticket[T]) Change(value T) { t.item.value = value }

// Failures returns how often in a row this message has been tried in vain.
func (t Ticket[T]) Failures() int { return t.lane.failures }

// Len returns how many messages are held, waiting or in flight.
func (s *Sequencer[T]) Len() int { return s.waiting.len + s.freeCount + s.inFlight }

// Waiting returns how many messages wait.
func (s *Sequencer[T]) Waiting() int { return s.waiting.len }

// InFlight returns how many messages are in the window.
func (s *Sequencer[T]) InFlight() int { return s.inFlight }

// InFlightOf returns how many messages of a group are in the window.
func (s *Sequencer[T]) InFlightOf(id int) int { return s.group(id).inFlight }

// SetWindow changes how many messages of a group may be worked on at once; what
// is in flight stays there.
func (s *Sequencer[T]) SetWindow(id, n int) { s.group(id).window = n }

// Add appends a message of size bytes to its lane. What had to be dropped to
// stay within the bounds is returned: the oldest messages that wait, or the
// added one alone when it could not be held even in an empty sequencer.
func (s *Sequencer[T]) Add(laneName string, value T, size int) (dropped []T) {
	if size > s.cfg.MaxBytes {
		return []T{value}
	}
	s.append(laneName, &item[T]{value: value, size: size})
	for s.waiting.front != nil && (s.waiting.len+s.freeCount > s.cfg.MaxWaiting || s.bytes+s.freeBytes > s.cfg.MaxBytes) {
		oldest := s.waiting.front
		s.take(oldest)
		dropped = append(dropped, oldest.value)
	}
	return dropped
}

// Next returns the message to be worked on now; false when none may be started
// at this time. It is called until it returns false. Every ticket is answered
// with exactly one of Done, Retry and Move.
func (s *Sequencer[T]) Next(now time.Time) (Ticket[T], bool) {
	for len(s.delayed) > 0 && !s.delayed[0].due.After(now) {
		s.wake(heap.Pop(&s.delayed).(*lane[T]))
	}
	if t, ok := s.next(&s.freeReady); ok {
		s.freeCount++
		s.freeBytes += t.item.size
		return t, true
	}
	if s.inFlight >= s.cfg.Window {
		return Ticket[T]{}, false
	}
	for range s.turns {
		g := s.turns[s.turn%len(s.turns)]
		s.turn++
		if g.inFlight >= g.window {
			continue
		}
		if t, ok := s.next(&g.ready); ok {
			s.inFlight++
			g.inFlight++
			return t, true
		}
	}
	return Ticket[T]{}, false
}

// next takes the head of the first lane that is ready.
func (s *Sequencer[T]) next(ready *[]*lane[T]) (Ticket[T], bool) {
	for len(*ready) > 0 {
		l := (*ready)[0]
		(*ready)[0] = nil
		*ready = (*ready)[1:]
		if l.front == nil { // all its messages were dropped meanwhile
			s.release(l)
			continue
		}
		it := l.front
		s.take(it)
		l.state = inFlight
		return Ticket[T]{lane: l, item: it}, true
	}
	return Ticket[T]{}, false
}

// WakeAt returns when Next may have something to say that it has not now,
// without any other input; false when there is no such time.
func (s *Sequencer[T]) WakeAt() (time.Time, bool) {
	if len(s.delayed) == 0 {
		return time.Time{}, false
	}
	return s.delayed[0].due, true
}

// Done lets go of a message that has been settled.
func (s *Sequencer[T]) Done(t Ticket[T]) {
	s.land(t)
	t.lane.failures = 0
	s.wake(t.lane)
}

// Retry puts a message back at the head of its lane, to be tried again before
// any other of that lane once the delay has passed.
func (s *Sequencer[T]) Retry(t Ticket[T], now time.Time) {
	s.land(t)
	l := t.lane
	l.failures++
	l.pushFront(t.item)
	s.waiting.pushFront(t.item)
	s.bytes += t.item.size
	l.state = waitsForTime
	l.due = now.Add(s.cfg.Delay(l.failures))
	heap.Push(&s.delayed, l)
}

// Move takes a message out of its lane, as Done does, and appends it, changed,
// to another one. It drops nothing: the message has been held all along.
func (s *Sequencer[T]) Move(t Ticket[T], laneName string, value T, size int) {
	s.Done(t)
	s.append(laneName, &item[T]{value: value, size: size})
}

// Drain empties the sequencer of all that waits and returns it, oldest first.
func (s *Sequencer[T]) Drain() []T {
	var rest []T
	for s.waiting.front != nil {
		oldest := s.waiting.front
		s.take(oldest)
		rest = append(rest, oldest.value)
	}
	return rest
}

func (s *Sequencer[T]) append(laneName string, it *item[T]) {
	l := s.lanes[laneName]
	if l == nil {
		l = s.newLane(laneName)
		s.lanes[laneName] = l
	}
	it.lane = l
	l.pushBack(it)
	s.waiting.pushBack(it)
	s.bytes += it.size
	if l.state == idle {
		s.makeReady(l)
	}
}

func (s *Sequencer[T]) newLane(name string) *lane[T] {
	l := &lane[T]{name: name, state: idle}
	switch {
	case s.cfg.Free != nil && s.cfg.Free(name):
	case s.cfg.Group == nil:
		l.group = s.group(0)
	default:
		l.group = s.group(s.cfg.Group(name))
	}
	return l
}

func (s *Sequencer[T]) group(id int) *group[T] {
	g := s.groups[id]
	if g == nil {
		g = &group[T]{window: s.cfg.Window}
		s.groups[id] = g
		s.turns = append(s.turns, g)
	}
	return g
}

func (s *Sequencer[T]) makeReady(l *lane[T]) {
	l.state = isReady
	if l.group == nil {
		s.freeReady = append(s.freeReady, l)
	} else {
		l.group.ready = append(l.group.ready, l)
	}
}

// land gives back what a message in flight took.
func (s *Sequencer[T]) land(t Ticket[T]) {
	if g := t.lane.group; g != nil {
		s.inFlight--
		g.inFlight--
		return
	}
	s.freeCount--
	s.freeBytes -= t.item.size
}

// take removes a waiting message, which is the front of its lane: messages of
// one lane stand in the waiting list in the lane's order.
func (s *Sequencer[T]) take(it *item[T]) {
	it.lane.popFront()
	s.waiting.remove(it)
	s.bytes -= it.size
}

// wake lets a lane's next message go, or forgets the lane.
func (s *Sequencer[T]) wake(l *lane[T]) {
	if l.front == nil {
		s.release(l)
		return
	}
	s.makeReady(l)
}

func (s *Sequencer[T]) release(l *lane[T]) {
	l.state = idle
	delete(s.lanes, l.name)
}
