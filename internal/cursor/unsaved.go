package cursor

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// refreshAfter is the age from which an entry is written again although
// nothing else has changed, so that an idle daemon's entry does not grow old.
const refreshAfter = time.Hour

// writer names a connection that writes an entry.
type writer struct {
	daemon     protocol.DaemonID
	generation uint64
}

// unsaved holds what connections of an orchestrator have reported to this node
// and it has yet to write.
type unsaved map[writer]Progress

// add remembers a report, after those that came before.
func (u *unsaved) add(w writer, p Progress) {
	if before, ok := (*u)[w]; ok {
		p = before.Then(p)
	}
	if *u == nil {
		*u = make(unsaved)
	}
	(*u)[w] = p
}

// applyTo puts the reports onto a record as it was read, older generations
// first. rec is not modified.
func (u unsaved) applyTo(rec Record, lim limits) Record {
	writers := slices.SortedFunc(maps.Keys(u), func(a, b writer) int {
		return cmp.Or(cmp.Compare(a.generation, b.generation), cmp.Compare(a.daemon, b.daemon))
	})
	for _, w := range writers {
		rec = rec.apply(w.daemon, u[w], lim)
	}
	return rec
}

// hasToLand reports whether a write is needed also where it changes nothing. The write
// of a start whose connection has ended may be under way still: nobody has heard what
// came of it, and the record does not show it; whatever is written before it makes it
// come too late. And where a daemon waits to hear that the record says what it wants,
// what was read may be an older record that said so too.
func (u unsaved) hasToLand(rec Record) bool {
	for w, p := range u {
		e, known := rec.Daemons[w.daemon]
		if p.Awaited || p.Abandoned && (!known || e.Generation < w.generation) {
			return true
		}
	}
	return false
}

// worthWriting reports whether next says more than stored.
func worthWriting(stored, next Record) bool {
	if stored.Epoch != next.Epoch || len(stored.Daemons) != len(next.Daemons) || !stored.Lost.equal(next.Lost) ||
		!maps.Equal(stored.Awaited, next.Awaited) || !maps.Equal(stored.Presumed, next.Presumed) {
		return true
	}
	for id, e := range next.Daemons {
		if old, ok := stored.Daemons[id]; !ok || !sameState(old, e) || e.Written.Sub(old.Written) >= refreshAfter {
			return true
		}
	}
	return false
}

func sameSubscription(s, t protocol.Subscription) bool {
	return s.Pattern == t.Pattern && slices.Equal(s.Channels, t.Channels)
}

// sameState reports whether two entries differ at most in when they were written.
func sameState(a, b Entry) bool {
	return a.Generation == b.Generation && a.Edge == b.Edge && a.Floor == b.Floor && a.Unnamed == b.Unnamed &&
		a.Sends == b.Sends && a.Sent == b.Sent &&
		slices.Equal(a.Settled, b.Settled) && slices.Equal(a.AnswersFor, b.AnswersFor) &&
		slices.EqualFunc(a.Subscriptions, b.Subscriptions, sameSubscription)
}
