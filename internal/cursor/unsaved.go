package cursor

import (
	"maps"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// refreshAfter is the age from which an entry is written again although
// nothing else has changed, so that an idle daemon's entry does not grow old.
const refreshAfter = time.Hour

// unsaved holds the newest states of an orchestrator's daemons that this node
// has yet to write, all of one epoch.
type unsaved struct {
	epoch   eventlog.Epoch
	entries map[protocol.DaemonID]Entry
}

// add remembers a state. One of a newer epoch replaces all that is there; one
// of an older epoch is ignored: its sequences mean nothing any more.
func (u *unsaved) add(epoch eventlog.Epoch, daemon protocol.DaemonID, e Entry, lim limits) {
	if len(u.entries) > 0 && u.epoch.Newer(epoch) {
		return
	}
	if u.entries == nil || epoch.Newer(u.epoch) {
		u.epoch, u.entries = epoch, make(map[protocol.DaemonID]Entry, 1)
	}
	u.entries[daemon] = merge(u.entries[daemon], e, lim)
}

// addAll remembers what others remembered after u.
func (u *unsaved) addAll(later unsaved, lim limits) {
	for id, e := range later.entries {
		u.add(later.epoch, id, e, lim)
	}
}

// reapply puts own states onto a record as it was read. rec is not modified.
//
// An own entry that has meanwhile been removed, because a successor took it
// over while the directory did not show this daemon, is put back. It harms
// nothing: an entry more can only lower where newcomers start, and the
// successor goes on from at or below the removed floor, for the same ids, so
// what the two share may be sent twice and nothing is passed by. Leaving it out
// would hold only while the successor wants all that this daemon wants: should
// it start again with fewer subscriptions, it would pass by what this living
// daemon lacks, and if this one then crashed, nobody would know.
func (u unsaved) reapply(rec Record, lim limits) Record {
	if len(u.entries) == 0 || rec.Epoch.Newer(u.epoch) {
		return rec
	}
	next := rec.at(u.epoch)
	for id, own := range u.entries {
		if e, ok := next.Daemons[id]; ok {
			own = merge(e, own, lim)
		}
		next.Daemons[id] = own
	}
	everyone := func(protocol.DaemonID) bool { return true } // who is connected is not known here
	next.bound(lim, everyone, slices.Collect(maps.Keys(u.entries))...)
	return next
}

// worthWriting reports whether next says more than stored.
func worthWriting(stored, next Record) bool {
	if stored.Epoch != next.Epoch || len(stored.Daemons) != len(next.Daemons) {
		return true
	}
	for id, e := range next.Daemons {
		if old, ok := stored.Daemons[id]; !ok || !sameState(old, e) || e.Written.Sub(old.Written) >= refreshAfter {
			return true
		}
	}
	return false
}

// sameState reports whether two entries differ at most in when they were written.
func sameState(a, b Entry) bool {
	sameSubscription := func(s, t protocol.Subscription) bool {
		return s.Pattern == t.Pattern && slices.Equal(s.Channels, t.Channels)
	}
	return a.Floor == b.Floor && a.Sends == b.Sends && a.Sent == b.Sent && a.Left == b.Left &&
		slices.Equal(a.Settled, b.Settled) && slices.Equal(a.AnswersFor, b.AnswersFor) &&
		slices.EqualFunc(a.Subscriptions, b.Subscriptions, sameSubscription)
}
