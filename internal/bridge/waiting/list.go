// Package waiting is a bridge's account of the addressees whose events wait in
// DAEMON_UNRESOLVED, or are on their way there. It keeps their order: while an
// older event of an addressee waits, a newer one goes behind it, and only when
// the last has come into the log do they go there directly again.
//
//	Join ──▶ Turn ── Store ──▶ put into the stream ──▶ Stored, NotStored
//	           │ Direct: nothing waits any more, into the log ──▶ gone
//	           └ Hold: what waits is just being brought into the log; ask again
//
//	Release ──▶ Quiet? read the stream, publish, remove ──▶ … none left ──▶ Finish
//
// While an addressee is being released nothing more is put into the stream, so
// the release comes to an end however fast new events come.
//
// It does no I/O and has no clock: times and results are handed in.
package waiting

import (
	"container/heap"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// List is the account. Its methods may be called at the same time.
type List struct {
	mu         sync.Mutex
	addressees map[protocol.OrchestratorID]*addressee
	order      order // by when they are to be asked for
	listings   uint64
}

// addressee is one whose events wait.
type addressee struct {
	id        protocol.OrchestratorID
	held      int  // events that have joined and not left
	storing   int  // of these, being put into the stream
	inStream  bool // something may wait in the stream
	releasing bool
	changed   uint64 // listings begun when something was stored last

	asked int       // how often in vain
	last  time.Time // when it was
	due   time.Time
	place int // in the order
}

// Verdict says what is to be done with an event whose turn has come.
type Verdict int

// The verdicts.
const (
	// Store: put it into the stream, and report that by Stored or NotStored.
	Store Verdict = iota
	// Direct: nothing older waits; it has left, and goes into the log.
	Direct
	// Hold: ask again a little later.
	Hold
)

// New returns an empty List.
func New() *List { return &List{addressees: map[protocol.OrchestratorID]*addressee{}} }

// Len returns how many addressees are waited for.
func (l *List) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.addressees)
}

// Waits reports whether events of an addressee wait, so that a newer one has to
// join them.
func (l *List) Waits(id protocol.OrchestratorID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addressees[id] != nil
}

// Join says that an event will go behind those that wait, or is the first. It
// is answered by Turn, or by Leave.
func (l *List) Join(id protocol.OrchestratorID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.getLocked(id)
	a.held++
	// Somebody speaks to it, so it may well exist by now.
	if a.asked > 0 {
		a.asked, a.due = 1, a.last.Add(firstInterval)
		heap.Fix(&l.order, a.place)
	}
}

// Turn says what to do with the oldest event that has joined. known: whose it is
// is known by now; ahead: earlier ones are still on their way into the log, and
// in the stream it could be released before them.
func (l *List) Turn(id protocol.OrchestratorID, known, ahead bool) Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.addressees[id]
	switch {
	case a.releasing:
		return Hold
	case known && !a.inStream && a.storing == 0:
		l.leaveLocked(a)
		return Direct
	case ahead:
		return Hold
	}
	a.storing++
	return Store
}

// Stored says that an event is in the stream.
func (l *List) Stored(id protocol.OrchestratorID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.storedLocked(l.addressees[id])
	l.leaveLocked(l.addressees[id])
}

// NotStored says that putting an event into the stream has failed. It may be
// there all the same. It is to have its Turn again, or to Leave.
func (l *List) NotStored(id protocol.OrchestratorID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.storedLocked(l.addressees[id])
}

// storedLocked notes that the stream may hold something. mu is held.
func (l *List) storedLocked(a *addressee) {
	a.storing--
	a.inStream = true
	a.changed = l.listings
}

// Leave says that an event that has joined goes elsewhere.
func (l *List) Leave(id protocol.OrchestratorID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaveLocked(l.addressees[id])
}

// Release begins to bring into the log what waits for an addressee; false if
// nothing does, or somebody is at it. Finish must follow.
func (l *List) Release(id protocol.OrchestratorID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.addressees[id]
	if a == nil || a.releasing {
		return false
	}
	a.releasing = true
	return true
}

// Quiet reports whether nothing is being put into the stream. If the stream,
// looked at after that, holds nothing for the addressee, it is empty for good.
func (l *List) Quiet(id protocol.OrchestratorID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addressees[id].storing == 0
}

// Finish ends a release. empty: nothing is left in the stream.
func (l *List) Finish(id protocol.OrchestratorID, empty bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.addressees[id]
	a.releasing = false
	if empty {
		a.inStream = false
	}
	l.forgetIdleLocked(a)
}

// Listing begins to compare the list with the stream. Listed ends it.
func (l *List) Listing() (number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listings++
	return l.listings
}

// Listed says who waits in the stream, as of some time since the Listing of this
// number: other bridges, or an earlier run, have put it there. Others are taken
// to wait there no longer, unless something was stored meanwhile.
func (l *List) Listed(number uint64, ids map[protocol.OrchestratorID]struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range ids {
		l.getLocked(id).inStream = true
	}
	for id, a := range l.addressees {
		if _, listed := ids[id]; listed || a.changed >= number || a.releasing || a.storing > 0 {
			continue
		}
		a.inStream = false
		l.forgetIdleLocked(a)
	}
}

// Due returns up to n addressees to be asked for now, those first for whom it is
// most due. It does not wait until they are due: intervals that grow only say
// who comes first when there are more than can be asked for.
func (l *List) Due(now time.Time, n int) []protocol.OrchestratorID {
	l.mu.Lock()
	defer l.mu.Unlock()
	var next []*addressee
	for len(next) < n && len(l.order) > 0 {
		next = append(next, heap.Pop(&l.order).(*addressee))
	}
	ids := make([]protocol.OrchestratorID, len(next))
	for i, a := range next {
		ids[i] = a.id
		a.last, a.due = now, now.Add(firstInterval<<min(a.asked, intervalDoublings))
		a.asked++
		heap.Push(&l.order, a)
	}
	return ids
}

// An addressee that was asked for in vain is due again after 2 s, doubled up to
// about four minutes.
const (
	firstInterval     = 2 * time.Second
	intervalDoublings = 7
)

// getLocked returns the addressee, new where it is not there. mu is held.
func (l *List) getLocked(id protocol.OrchestratorID) *addressee {
	a := l.addressees[id]
	if a == nil {
		a = &addressee{id: id}
		l.addressees[id] = a
		heap.Push(&l.order, a)
	}
	return a
}

// leaveLocked takes an event off the account. mu is held.
func (l *List) leaveLocked(a *addressee) {
	a.held--
	l.forgetIdleLocked(a)
}

// forgetIdleLocked drops an addressee for whom nothing waits. mu is held.
func (l *List) forgetIdleLocked(a *addressee) {
	if a.held == 0 && !a.inStream && !a.releasing {
		heap.Remove(&l.order, a.place)
		delete(l.addressees, a.id)
	}
}

// order is a heap of addressees by when they are due.
type order []*addressee

func (o order) Len() int           { return len(o) }
func (o order) Less(i, j int) bool { return o[i].due.Before(o[j].due) }
func (o order) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].place, o[j].place = i, j
}

// Push is part of heap.Interface.
func (o *order) Push(a any) {
	a.(*addressee).place = len(*o)
	*o = append(*o, a.(*addressee))
}

// Pop is part of heap.Interface.
func (o *order) Pop() any {
	last := len(*o) - 1
	a := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	return a
}
