package session

import (
	"slices"
	"sort"
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// window is what has been considered above the floor, in log order: unsettled
// events and, between them, ranges in which everything is settled. Its first
// item is always unsettled, so the floor lies just below it.
type window struct {
	items     []item
	unsettled int
	ranges    int
	bytes     int // of the unsettled events' bodies
}

// item is an unsettled event, or a settled range from first to last.
type item struct {
	first, last uint64
	pending     *pending // nil: a settled range
}

// sends is what the cursor is to remember of the tries of an unsettled event.
func (it item) sends() cursor.Sends {
	counted := cursor.Sends{Sequence: it.first, Count: it.pending.vain}
	if counted.Count > 0 {
		counted.Stored = it.pending.stored.UnixNano()
	}
	return counted
}

// pending is an unsettled event.
type pending struct {
	event   event.Event
	body    []byte
	stored  time.Time
	after   uint64      // the orchestrator has no other event between this and it
	vain    int         // tries in vain, over connections
	written bool        // the last Send has been answered by Written
	again   int         // how often it was sent again on this connection, for want of an ack
	asked   bool        // the last Send has a ping, which has not been answered yet
	repeat  bool        // the last Send was not the first
	traced  trace.Cause // what is noted of it; None: nothing yet
	// deadLetterAt is when the event is dead-lettered again after a failure;
	// dead says that it is on its way there.
	dead         bool
	deadLetterAt time.Time

	arrival *trace.Arrival   // how it came here
	trace   *tracing.Context // where it stands in its trace; nil: it has none
	wrote   time.Duration    // when it was written last, see wroteAt; 0: it was not
}

// inHand reports whether the daemon has the event, as far as is known, and is waited for.
func (p *pending) inHand() bool { return p.written && !p.asked && p.event.RequiresAck && !p.dead }

// inHand returns how many events the daemon has in hand.
func (w *window) inHand() (n int) {
	for _, it := range w.items {
		if it.pending != nil && it.pending.inHand() {
			n++
		}
	}
	return n
}

func (w *window) push(sequence uint64, p *pending) {
	w.items = append(w.items, item{first: sequence, last: sequence, pending: p})
	w.unsettled++
	w.bytes += len(p.body)
}

// pass records an event above the floor that needs no sending.
func (w *window) pass(sequence uint64) {
	n := len(w.items)
	switch {
	case n == 0: // the floor itself passes it
	case w.items[n-1].pending == nil:
		w.items[n-1].last = sequence
	default:
		w.items = append(w.items, item{first: sequence, last: sequence})
		w.ranges++
	}
}

// find returns the index of the unsettled event at sequence.
func (w *window) find(sequence uint64) (int, bool) {
	i := sort.Search(len(w.items), func(i int) bool { return w.items[i].last >= sequence })
	return i, i < len(w.items) && w.items[i].pending != nil && w.items[i].first == sequence
}

// settle turns the unsettled event at index i into part of a settled range,
// and drops what the floor has passed.
func (w *window) settle(i int) {
	w.unsettled--
	w.bytes -= len(w.items[i].pending.body)
	w.items[i].pending = nil
	w.ranges++
	if i+1 < len(w.items) && w.items[i+1].pending == nil {
		w.items[i].last = w.items[i+1].last
		w.items = slices.Delete(w.items, i+1, i+2)
		w.ranges--
	}
	if i > 0 && w.items[i-1].pending == nil {
		w.items[i-1].last = w.items[i].last
		w.items = slices.Delete(w.items, i, i+1)
		w.ranges--
	}
	if w.items[0].pending == nil {
		w.items = slices.Delete(w.items, 0, 1)
		w.ranges--
	}
	if len(w.items) == 0 {
		w.items = nil
	}
}

// settled returns the settled ranges above the floor.
func (w *window) settled() []cursor.Range {
	if w.ranges == 0 {
		return nil
	}
	out := make([]cursor.Range, 0, w.ranges)
	for _, it := range w.items {
		if it.pending == nil {
			out = append(out, cursor.Range{First: it.first, Last: it.last})
		}
	}
	return out
}
