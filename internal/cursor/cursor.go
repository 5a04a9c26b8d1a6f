// Package cursor keeps where each daemon of an orchestrator stands in the
// event log, and decides where a connection starts.
//
// The first half is pure: Record (all daemons of one orchestrator, one value
// in a KV bucket), Merge (two states of one daemon) and Start (the decision at
// the first subscribe). The second half, Store, reads and writes records in
// JetStream, many at once. Edges use it; it knows nothing of sockets,
// sessions or the directory.
//
// The rule behind every choice here: what is forgotten of a cursor costs
// duplicates; what is claimed too much costs an event. So in doubt a floor is
// lower, a range is dropped, a subscription is wider and an entry is kept.
package cursor

import (
	"maps"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// The bounds of a record. They keep it well below NATS's maximum payload of
// 1 MiB and a session's share of memory small.
const (
	// MaxRanges is how many settled ranges above the floor an entry keeps.
	// The highest are dropped: that costs duplicates.
	MaxRanges = 64
	// MaxEntries is how many entries a record keeps, the Remainder included.
	MaxEntries = 32
	// MaxAnswersFor is how many ids of predecessors an entry keeps; the oldest
	// is forgotten, and with it events addressed to it that are still unsettled.
	// A daemon with a new id every hour is spoken for over two and a half days.
	MaxAnswersFor = 64
	// MaxSubscriptionBytes is about how many bytes of subscriptions an entry
	// keeps; longer ones are replaced by wider ones, without channels.
	MaxSubscriptionBytes = 8 << 10
)

// Remainder is the key of the entry that stands for all entries that had to
// leave a full record: the lowest of their floors, all of their subscriptions
// and ids. No daemon has this id, so it never looks connected, and it leaves
// the record only when a daemon starts that wants all that they wanted. It
// keeps invariant 1 (nothing lost) at the price of duplicates for newcomers.
const Remainder protocol.DaemonID = ""

// Range is a run of sequences, both ends included, within which nothing of
// the orchestrator is unsettled.
type Range struct{ First, Last uint64 }

// Sends counts how often an event has been sent in vain: not acknowledged in
// time, or in hand when the connection broke.
type Sends struct {
	// Sequence is the event: the oldest unsettled one when it was counted.
	Sequence uint64
	Count    int
}

// Entry is where one daemon stands. Its slices are shared and never modified.
type Entry struct {
	// Floor: all events up to here are settled for this daemon (invariant 3).
	Floor uint64
	// Settled are further settled events above the floor: sorted, apart from
	// one another and from the floor, at most MaxRanges.
	Settled []Range
	// Subscriptions is at least what the daemon has subscribed to since its
	// last Start. Only a daemon that wants all of it may take the entry over.
	Subscriptions []protocol.Subscription
	// AnswersFor are the ids of daemons this one has taken over, oldest first:
	// events addressed to them are sent to this one.
	AnswersFor []protocol.DaemonID
	// Sends is kept here so that an event that crashes its daemon is counted
	// over reconnects. It means something only while Sends.Sequence is the
	// daemon's oldest unsettled event.
	Sends Sends
	// Sent is the highest sequence ever written to the daemon's connections or
	// to those it has taken over: what is at or below it is a repeat.
	Sent uint64
	// Left: the daemon's last connection ended and wrote this as its last word.
	Left bool
	// Written is when the entry was last written. Entries older than the
	// events' age are dropped, so a session saves at least daily.
	Written time.Time
}

// Settles reports whether the event at this sequence is settled for the daemon.
func (e Entry) Settles(sequence uint64) bool {
	return sequence <= e.Floor || slices.ContainsFunc(e.Settled, func(r Range) bool {
		return r.First <= sequence && sequence <= r.Last
	})
}

// Record holds the entries of all daemons of one orchestrator. It is one
// value in the store, so that a takeover is one atomic write. The zero Record
// is that of an orchestrator never seen.
type Record struct {
	// Epoch is the life of the log within which the sequences mean something.
	Epoch   eventlog.Epoch
	Daemons map[protocol.DaemonID]Entry
}

// at returns a copy of the record that may be modified, for the given epoch.
// Sequences of another epoch mean nothing: everyone starts from the oldest
// retained event. Who wants what, and speaks for whom, still holds.
func (rec Record) at(epoch eventlog.Epoch) Record {
	next := Record{Epoch: epoch, Daemons: make(map[protocol.DaemonID]Entry, len(rec.Daemons)+1)}
	maps.Copy(next.Daemons, rec.Daemons)
	if rec.Epoch == epoch {
		return next
	}
	for id, e := range next.Daemons {
		next.Daemons[id] = Entry{Subscriptions: e.Subscriptions, AnswersFor: e.AnswersFor, Left: e.Left, Written: e.Written}
	}
	return next
}

// limits are the bounds as values, so that tests reach them.
type limits struct {
	ranges, entries, answers, subscriptionBytes int
}

var defaultLimits = limits{MaxRanges, MaxEntries, MaxAnswersFor, MaxSubscriptionBytes}
