package sequencer

import "time"

// item is one message. While it waits it stands in two lists: its lane's and
// the list of all that wait.
type item[T any] struct {
	value T
	size  int
	lane  *lane[T]

	laneNext   *item[T]
	prev, next *item[T]
}

type laneState int

const (
	idle         laneState = iota // just created, or forgotten
	isReady                       // stands in its group's ready, or in Sequencer.freeReady
	inFlight                      // one message is being worked on
	waitsForTime                  // stands in Sequencer.delayed
)

// lane is the messages of one orchestrator that wait, in order.
type lane[T any] struct {
	name        string
	group       *group[T] // nil: it is free of the window
	state       laneState
	failures    int
	due         time.Time
	front, back *item[T]
}

// group is lanes with a window that is theirs together.
type group[T any] struct {
	window, inFlight int
	ready            []*lane[T]
}

func (l *lane[T]) pushBack(it *item[T]) {
	it.laneNext = nil
	if l.back == nil {
		l.front = it
	} else {
		l.back.laneNext = it
	}
	l.back = it
}

func (l *lane[T]) pushFront(it *item[T]) {
	it.laneNext = l.front
	l.front = it
	if l.back == nil {
		l.back = it
	}
}

func (l *lane[T]) popFront() {
	it := l.front
	l.front = it.laneNext
	if l.front == nil {
		l.back = nil
	}
	it.laneNext = nil
}

// list is all messages that wait, roughly oldest first: what was put back after
// a failure goes to the front, before everything younger of its own lane.
type list[T any] struct {
	front, back *item[T]
	len         int
}

func (w *list[T]) pushBack(it *item[T]) {
	it.prev, it.next = w.back, nil
	if w.back == nil {
		w.front = it
	} else {
		w.back.next = it
	}
	w.back = it
	w.len++
}

func (w *list[T]) pushFront(it *item[T]) {
	it.prev, it.next = nil, w.front
	if w.front == nil {
		w.back = it
	} else {
		w.front.prev = it
	}
	w.front = it
	w.len++
}

func (w *list[T]) remove(it *item[T]) {
	if it.prev == nil {
		w.front = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		w.back = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.prev, it.next = nil, nil
	w.len--
}

// delayed is a heap of lanes by the time their head is due.
type delayed[T any] []*lane[T]

func (d delayed[T]) Len() int           { return len(d) }
func (d delayed[T]) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d delayed[T]) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }

// Push is part of heap.Interface.
func (d *delayed[T]) Push(l any) { *d = append(*d, l.(*lane[T])) }

// Pop is part of heap.Interface.
func (d *delayed[T]) Pop() any {
	last := len(*d) - 1
	l := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return l
}
