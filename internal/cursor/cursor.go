// Package cursor keeps where each daemon of an orchestrator stands in the
// event log, and decides where a connection starts.
//
// The first half is pure: Record (all daemons of one orchestrator, one value
// in a KV bucket), Start (the decision at the first subscribe) and Apply (what
// a connection reports afterwards). The second half, Store, reads and writes
// records in JetStream, many at once. Edges use it; it knows nothing of
// sockets, sessions or the directory.
//
// Each start of a connection is given a generation in the write that decides
// it. A floor says what was passed over under one connection's wishes, so only
// the newest generation moves it; of an older one nothing counts but what its
// daemon has acknowledged, event by event.
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
	// MaxAnswersForBytes is how many bytes these ids take as they are stored. It
	// is reached only by ids of characters that JSON writes longer than they are.
	MaxAnswersForBytes = 12 << 10
	// MaxSubscriptionBytes is about how many bytes of subscriptions an entry
	// keeps, as they are stored; longer ones are replaced by wider ones, without
	// channels.
	MaxSubscriptionBytes = 8 << 10
	// MaxPresumed is how many daemons a record keeps that were taken for gone. One
	// that is forgotten and lives has to connect again.
	MaxPresumed = 32
	// MaxAwaited is how many ids a record keeps of daemons never seen for which
	// events wait. The one written longest ago goes into Anybody.
	MaxAwaited = 32
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
	// Stored is when the log stored it, in Unix nanoseconds; 0: not said. After a
	// rollback of the log another event may stand at the sequence.
	Stored int64
	Count  int
}

// Of returns the count if it is that of this event, else 0.
func (s Sends) Of(sequence uint64, stored time.Time) int {
	if s.Sequence != sequence || s.Stored != stored.UnixNano() {
		return 0
	}
	return s.Count
}

// Entry is where one daemon stands. Its slices are shared and never modified.
type Entry struct {
	// Generation is that of the daemon's last start, higher than any before in
	// the record. 0: written by a release without generations.
	Generation uint64
	// Edge holds the daemon's connection, by its name in the directory; empty:
	// the connection has ended.
	Edge string
	// Floor: all events up to here are settled for this daemon (invariant 3).
	Floor uint64
	// Settled are further settled events above the floor: sorted, apart from
	// one another and from the floor, at most MaxRanges.
	Settled []Range
	// Unnamed: up to here, what names neither the daemon nor one that it answers
	// for is settled too. It lies above Floor only while a daemon with a new id
	// looks for what has waited for that id.
	Unnamed uint64
	// Subscriptions is at least what the daemon has subscribed to since its
	// last Start. Only a daemon that wants all of it may take the entry over.
	Subscriptions []protocol.Subscription
	// AnswersFor are the ids of daemons this one has taken over, oldest first:
	// events addressed to them are sent to this one. None of them has an entry.
	AnswersFor []protocol.DaemonID
	// Sends is kept here so that an event that crashes its daemon is counted
	// over reconnects. It means something only while its event is the daemon's
	// oldest unsettled one.
	Sends Sends
	// Sent is the highest sequence ever written to the daemon's connections or
	// to those it has taken over: what is at or below it is a repeat.
	Sent uint64
	// Written is when the entry was last written, by the clock of whoever did.
	// It is compared only with how long events are kept, see writtenWithin.
	Written time.Time
}

// writtenWithin is more than the time within which an entry is written again while
// its daemon is connected, though nothing else has changed.
const writtenWithin = 24 * time.Hour

// UnknownEdge stands in the entries of a release that did not write which edge
// holds a connection. It never looks gone.
const UnknownEdge = "?"

// Settles reports whether the event at this sequence is settled for the daemon.
func (e Entry) Settles(sequence uint64) bool {
	return sequence <= e.Floor || slices.ContainsFunc(e.Settled, func(r Range) bool {
		return r.First <= sequence && sequence <= r.Last
	})
}

// settle adds ranges of settled events.
func (e *Entry) settle(more []Range, lim limits) {
	e.Floor, e.Settled = normalize(e.Floor, slices.Concat(e.Settled, more), lim.ranges)
	if e.Settles(e.Sends.Sequence) {
		e.Sends = Sends{}
	}
}

// unnamed returns what is settled for whoever does not answer to the daemon's
// names.
func (e Entry) unnamed(lim limits) Entry {
	e.Floor, e.Settled = normalize(max(e.Floor, e.Unnamed), e.Settled, lim.ranges)
	return e
}

// Record holds the entries of all daemons of one orchestrator. It is one
// value in the store, so that a takeover is one atomic write. The zero Record
// is that of an orchestrator never seen.
type Record struct {
	// Revision is the store's for this record, 0 if it has none. It is not part
	// of the value.
	Revision uint64
	// Epoch is the life of the log within which the sequences mean something.
	Epoch   eventlog.Epoch
	Daemons map[protocol.DaemonID]Entry
	// Awaited are ids named by events that some daemon has passed over. They have
	// no entry, and nobody answers for them.
	Awaited map[protocol.DaemonID]Awaited
	// Presumed are daemons that somebody answers for since they were taken for
	// gone and had not left, with the generation of their last start, at most
	// MaxPresumed. That connection, if it lives, gets the entry back.
	Presumed map[protocol.DaemonID]uint64
	// Lost is what is known of a loss of this record.
	Lost Lost
}

// Highest is the highest sequence that the record speaks of: a log that does
// not reach it is not the one that the record was written for.
func (rec Record) Highest() uint64 {
	var highest uint64
	for _, e := range rec.Daemons {
		highest = max(highest, e.Floor, e.Sent)
		if n := len(e.Settled); n > 0 {
			highest = max(highest, e.Settled[n-1].Last)
		}
	}
	return highest
}

// at returns a copy of the record that may be modified, for the given epoch.
// Sequences of another epoch mean nothing: everyone starts from the oldest
// retained event. Who wants what, and speaks for whom, still holds.
func (rec Record) at(epoch eventlog.Epoch) Record {
	next := Record{
		Revision: rec.Revision, Epoch: epoch,
		Daemons: make(map[protocol.DaemonID]Entry, len(rec.Daemons)+1), Awaited: make(map[protocol.DaemonID]Awaited),
		Presumed: make(map[protocol.DaemonID]uint64), Lost: rec.Lost,
	}
	maps.Copy(next.Daemons, rec.Daemons)
	maps.Copy(next.Presumed, rec.Presumed)
	if rec.Epoch == epoch {
		maps.Copy(next.Awaited, rec.Awaited)
		return next
	}
	for id, e := range next.Daemons {
		next.Daemons[id] = Entry{
			Generation: e.Generation, Edge: e.Edge, Subscriptions: e.Subscriptions, AnswersFor: e.AnswersFor, Written: e.Written,
		}
	}
	return next
}

// nextGeneration is higher than any that this orchestrator's daemons were ever
// given, also where a release without generations has written in between: the
// write that carries it is of a higher revision still. Where the bucket was
// lost, or is an older one again, the time in milliseconds is higher:
// connections from before go on writing.
func (rec Record) nextGeneration(now time.Time) uint64 {
	highest := max(rec.Revision, uint64(max(0, now.UnixMilli())))
	for _, e := range rec.Daemons {
		highest = max(highest, e.Generation)
	}
	return highest + 1
}

// limits are the bounds as values, so that tests reach them.
type limits struct {
	ranges, entries, answers, answerBytes, subscriptionBytes, awaited int
}

var defaultLimits = limits{MaxRanges, MaxEntries, MaxAnswersFor, MaxAnswersForBytes, MaxSubscriptionBytes, MaxAwaited}
