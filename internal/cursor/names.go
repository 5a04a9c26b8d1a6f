package cursor

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Awaited says since when events have waited for a daemon never seen.
type Awaited struct {
	// From is the lowest sequence of an event that names it and was passed over.
	From uint64
	// Written is when that was noted last.
	Written time.Time
}

// Anybody is the key of the note that stands for all those that found no place:
// whoever is new may be the one that is awaited.
const Anybody protocol.DaemonID = ""

// await notes that an event at from names the id and was passed over.
func (rec Record) await(id protocol.DaemonID, from uint64, now time.Time, lim limits) {
	rec.noteAwaited(id, Awaited{from, written(now)})
	for len(rec.Awaited) > lim.awaited {
		rest := slices.DeleteFunc(slices.Sorted(maps.Keys(rec.Awaited)), func(id protocol.DaemonID) bool { return id == Anybody })
		oldest := slices.MinFunc(rest, func(a, b protocol.DaemonID) int {
			return rec.Awaited[a].Written.Compare(rec.Awaited[b].Written)
		})
		rec.noteAwaited(Anybody, rec.Awaited[oldest])
		delete(rec.Awaited, oldest)
	}
}

func (rec Record) noteAwaited(id protocol.DaemonID, a Awaited) {
	if have, ok := rec.Awaited[id]; ok {
		a.From = min(a.From, have.From)
		if have.Written.After(a.Written) {
			a.Written = have.Written
		}
	}
	rec.Awaited[id] = a
}

// answerFor makes the entry look for what has waited for these ids, and removes
// the notes but that for Anybody. What waits may lie within what others have
// settled.
func (rec Record) answerFor(e *Entry, ids ...protocol.DaemonID) {
	for _, id := range ids {
		if a, ok := rec.Awaited[id]; ok {
			e.lookBack(a.From - 1)
		}
		if id != Anybody {
			delete(rec.Awaited, id)
		}
	}
}

// lacks makes unsettled again what names the daemon and was not settled by the
// other, which it takes over.
func (e *Entry) lacks(other Entry, lim limits) {
	before := e.Floor
	if e.Floor, e.Settled = intersect(*e, other, lim.ranges); e.Floor < before {
		e.Unnamed = max(e.Unnamed, before)
	}
}

// lookBack makes unsettled again what names the daemon and stands above the
// sequence.
func (e *Entry) lookBack(to uint64) {
	if to < e.Floor {
		e.Unnamed = max(e.Unnamed, e.Floor)
		e.Floor = to
	}
	kept, _ := slices.BinarySearchFunc(e.Settled, to, func(r Range, to uint64) int {
		if r.First <= to {
			return -1
		}
		return 1
	})
	e.Settled = slices.Clone(e.Settled[:kept])
	if n := len(e.Settled); n > 0 {
		e.Settled[n-1].Last = min(e.Settled[n-1].Last, to)
	}
	if len(e.Settled) == 0 {
		e.Settled = nil
	}
}

// remove takes out the entry of a daemon that another one is to answer for.
func (rec Record) remove(id protocol.DaemonID) {
	if e := rec.Daemons[id]; e.Edge != "" && id != Remainder {
		rec.Presumed[id] = e.Generation
	}
	delete(rec.Daemons, id)
}

// boundPresumed forgets those who are answered for no more, and who began
// longest ago.
func (rec Record) boundPresumed() {
	maps.DeleteFunc(rec.Presumed, func(id protocol.DaemonID, _ uint64) bool {
		of, ok := rec.holder(id)
		return !ok || of == id
	})
	for len(rec.Presumed) > MaxPresumed {
		delete(rec.Presumed, slices.MinFunc(slices.Sorted(maps.Keys(rec.Presumed)), func(a, b protocol.DaemonID) int {
			return cmp.Compare(rec.Presumed[a], rec.Presumed[b])
		}))
	}
}

// Superseded reports whether a daemon has begun again since the start of one of
// its connections. One that was taken over may live, if it had not left: but
// then it is the connection that began last.
func (rec Record) Superseded(daemon protocol.DaemonID, generation uint64) bool {
	if e, known := rec.Daemons[daemon]; known {
		return e.Generation > generation
	}
	if last, presumed := rec.Presumed[daemon]; presumed {
		return last > generation
	}
	_, answeredFor := rec.holder(daemon)
	return answeredFor
}

// LastStart returns the generation of a daemon's last start; where it was taken
// over and that is not known, the generation of whoever answers for it; false:
// it was never here. Each start of the daemon changes the answer.
func (rec Record) LastStart(daemon protocol.DaemonID) (uint64, bool) {
	of, here := rec.holder(daemon)
	if last, presumed := rec.Presumed[daemon]; presumed && of != daemon {
		return last, true
	}
	return rec.Daemons[of].Generation, here
}

// takeNames makes nobody answer for these ids any more.
func (rec Record) takeNames(ids ...protocol.DaemonID) {
	for of, e := range rec.Daemons {
		if slices.ContainsFunc(e.AnswersFor, func(id protocol.DaemonID) bool { return slices.Contains(ids, id) }) {
			e.AnswersFor = slices.DeleteFunc(slices.Clone(e.AnswersFor), func(id protocol.DaemonID) bool { return slices.Contains(ids, id) })
			rec.Daemons[of] = e
		}
	}
}

// holder returns who answers for the id, if anybody does.
func (rec Record) holder(id protocol.DaemonID) (protocol.DaemonID, bool) {
	if _, ok := rec.Daemons[id]; ok {
		return id, true
	}
	for of, e := range rec.Daemons {
		if slices.Contains(e.AnswersFor, id) {
			return of, true
		}
	}
	return "", false
}

// Disturbed returns the edges whose connections next tells something that rec
// did not: that they were superseded or taken over, or that they answer for
// other daemons than before.
func (rec Record) Disturbed(next Record) []string {
	var edges []string
	for id, e := range rec.Daemons {
		n, ok := next.Daemons[id]
		if e.Edge == "" || e.Edge == UnknownEdge || slices.Contains(edges, e.Edge) {
			continue
		}
		if !ok || n.Generation != e.Generation || !slices.Equal(n.AnswersFor, e.AnswersFor) {
			edges = append(edges, e.Edge)
		}
	}
	return edges
}
