package cursor

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Lost says that a record, or the end of it, was lost with its bucket. Who else was
// here is not known then, nor what they wanted and had settled. So whoever has no
// entry looks at everything retained (invariant 1), as where no record is: for what
// names it, and for what it wants. What it had acknowledged before comes again. That
// ends when those who are not known would have been forgotten as well.
type Lost struct {
	// Since is when the loss was found; zero: nothing was lost.
	Since time.Time
	// Looked is what those want who have looked at everything since. Of that, what may
	// be owed to anybody lies above the floor of some entry, or is noted in Awaited, so
	// that a newcomer which wants no more begins as ever. Nobody has looked for what
	// one of them has wanted no more, be it for a moment: then it is empty.
	Looked []protocol.Subscription
}

func (l Lost) equal(m Lost) bool {
	return l.Since.Equal(m.Since) && slices.EqualFunc(l.Looked, m.Looked, sameSubscription)
}

// in returns the loss as it still is at a time; maxAge is how long events are kept,
// 0: for ever.
func (l Lost) in(now time.Time, maxAge time.Duration) Lost {
	if maxAge > 0 && now.Sub(l.Since) > maxAge+writtenWithin {
		return Lost{}
	}
	return l
}

// hides reports whether a newcomer may be owed what all entries have settled. One that
// has subscribed to nothing so far (see Settle) may be about to want anything.
func (l Lost) hides(wanted []protocol.Subscription) bool {
	return !l.Since.IsZero() && (len(wanted) == 0 || !Covers(l.Looked, wanted))
}

// look notes what a newcomer wants that looks at everything. Never more than that: where
// it becomes too long, what others have looked for is forgotten.
func (l Lost) look(wanted []protocol.Subscription, lim limits) Lost {
	for _, looked := range [][]protocol.Subscription{slices.Concat(l.Looked, wanted), wanted} {
		if l.Looked = unite(lim, looked); Covers(looked, l.Looked) {
			return l
		}
	}
	l.Looked = nil
	return l
}

// misses reports whether the record was lost, or is an older one again, since the start
// of a connection: it does not know of that.
func (rec Record) misses(daemon protocol.DaemonID, p Progress) bool {
	last, here := rec.LastStart(daemon)
	unfenced := here && last == 0 // a release without generations has written it
	return !p.Abandoned && !unfenced && last < p.Entry.Generation
}
