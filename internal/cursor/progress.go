package cursor

import (
	"cmp"
	"maps"
	"slices"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Progress is what a connection reports of where its daemon stands.
type Progress struct {
	// Epoch is that of all sequences.
	Epoch eventlog.Epoch
	// Entry is where the daemon stands, under the generation of the connection's
	// start. An empty Edge makes it the connection's last word. What the daemon
	// answers for is left to the record.
	Entry Entry
	// Acked are what the daemon has acknowledged since the last report, or was
	// dead-lettered. Each ends with such an event and begins right after the
	// orchestrator's event before it.
	Acked []Range
	// Passed are the ids named by events that the connection has passed over
	// since the last report, with the lowest sequence of each.
	Passed map[protocol.DaemonID]uint64
	// Narrowed: since the last report the daemon has wanted less than it did, maybe
	// only for a while. What the entry's bounds make wider does not show that.
	Narrowed bool
	// Awaited: the daemon waits to hear that what it wants is stored.
	Awaited bool
	// Abandoned: the start was decided, and its connection had ended. Nothing else
	// is known.
	Abandoned bool
}

// Then returns this report and a later one of the same connection as one.
func (p Progress) Then(later Progress) Progress {
	if later.Abandoned && !p.Abandoned {
		p.Entry.Edge = "" // the rest is as it was before
		return p
	}
	if later.Epoch != p.Epoch {
		if p.Epoch.Newer(later.Epoch) {
			return p
		}
		return later
	}
	later.Acked = AddAcked(p.Acked, later.Acked...)
	later.Narrowed = later.Narrowed || p.Narrowed
	if len(p.Passed) > 0 {
		passed := maps.Clone(p.Passed)
		for id, from := range later.Passed {
			NotePassed(passed, id, from)
		}
		later.Passed = passed
	}
	return later
}

// AddAcked adds ranges to those of a report. The highest are dropped where they
// are too many.
func AddAcked(acked []Range, more ...Range) []Range {
	all := join(slices.Concat(acked, more))
	return all[:min(len(all), MaxRanges)]
}

// NotePassed notes that an event at the sequence names the id and was passed
// over. What finds no place is noted for Anybody.
func NotePassed(passed map[protocol.DaemonID]uint64, id protocol.DaemonID, sequence uint64) {
	if _, ok := passed[id]; !ok && len(passed) >= MaxAwaited {
		id = Anybody
	}
	if have, ok := passed[id]; !ok || sequence < have {
		passed[id] = sequence
	}
}

// Apply returns the record with what a connection of the daemon reports. rec is
// not modified.
//
//   - The entry is of the connection's own generation: it is the only writer of
//     it. What was acknowledged beside it stays. If the daemon wants less than
//     before, or did for a while, those it speaks for are handed back as they
//     stood (see Start).
//   - It is of a newer one: a floor, computed under other wishes, may have passed
//     what only the newer connection wants. Only acknowledgements count.
//   - There is none: a successor took it over while the directory did not show
//     that the daemon lives. It is put back, and answers for its names again;
//     the successor goes on from at or below its floor. If the connection has
//     ended meanwhile, or was not the newest (see Superseded), the successor is
//     right. Where there is no successor, it is put back.
//   - The record does not know of the connection's start: it was lost (see Lost).
//   - It has no generation: a release without them wrote it, and the two are
//     united as that release does.
func (rec Record) Apply(daemon protocol.DaemonID, p Progress) Record {
	return rec.apply(daemon, p, defaultLimits)
}

func (rec Record) apply(daemon protocol.DaemonID, p Progress, lim limits) Record {
	if rec.Epoch.Newer(p.Epoch) {
		if p.Entry.Edge != "" {
			return rec
		}
		p.Epoch, p.Abandoned = rec.Epoch, true // of its last word that much still holds
	}
	next := rec.at(p.Epoch)
	own := p.Entry
	if rec.misses(daemon, p) {
		next.Lost = Lost{Since: written(own.Written)}
	}
	stored, known := next.Daemons[daemon]
	_, answered := rec.holder(daemon)
	switch {
	case p.Abandoned:
		if !known || stored.Generation != own.Generation {
			return rec
		}
		stored.Edge = ""
		next.Daemons[daemon] = stored
		return next
	case !known && (own.Edge == "" && answered || rec.Superseded(daemon, own.Generation)):
		return rec
	case !known:
		next.putBack(daemon, own)
	case stored.Generation > own.Generation:
		stored.settle(p.Acked, lim)
		next.Daemons[daemon] = stored
		return next
	case stored.Generation == 0:
		united := merge(stored, own, lim)
		united.Generation, united.Edge, united.AnswersFor = own.Generation, own.Edge, stored.AnswersFor
		next.Daemons[daemon] = united
	default:
		own.AnswersFor, own.Subscriptions = stored.AnswersFor, unite(lim, own.Subscriptions)
		if p.Narrowed || !Covers(own.Subscriptions, stored.Subscriptions) {
			own.AnswersFor, next.Lost.Looked = next.handBack(stored, own.Generation), nil
		}
		if stored.Generation == own.Generation {
			own.Floor = max(own.Floor, stored.Floor)
			own.settle(stored.Settled, lim)
			if stored.Edge == "" {
				own.Edge = "" // its last word was there before this one
			}
		}
		next.Daemons[daemon] = own
	}
	for _, id := range slices.SortedFunc(maps.Keys(p.Passed), cmp.Compare) {
		// A daemon with an entry, or with somebody who answers for it, finds the
		// event above that floor, unless the one that answers for it passed the event
		// over.
		if holder, ok := next.holder(id); !ok || holder == daemon && id != daemon || id == Anybody {
			next.await(id, p.Passed[id], own.Written, lim)
		}
	}
	next.bound(lim, func(e Entry) bool { return e.Edge == "" }, daemon)
	return next
}

// putBack gives a daemon that lives its entry again, and its names.
func (rec Record) putBack(daemon protocol.DaemonID, own Entry) {
	own.AnswersFor = slices.DeleteFunc(slices.Clone(own.AnswersFor), func(id protocol.DaemonID) bool {
		_, known := rec.Daemons[id]
		return known
	})
	rec.takeNames(append(slices.Clone(own.AnswersFor), daemon)...)
	rec.Daemons[daemon] = own
	delete(rec.Awaited, daemon)
	delete(rec.Presumed, daemon)
}
