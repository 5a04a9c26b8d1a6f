package cursor

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// StartRequest says who begins at its first subscribe, and what is known then.
type StartRequest struct {
	Daemon protocol.DaemonID
	// Edge is the name of the edge that holds the connection; empty: there is
	// none, an ack by HTTP is to be remembered.
	Edge string
	// Subscriptions is what the connection has subscribed to.
	Subscriptions []protocol.Subscription
	// Since is the generation of an earlier start of the same connection, since which
	// it has wanted no less; 0: there is none. The entry that this has written may seem
	// to want more, by its bounds.
	Since uint64
	// Alive reports whether the directory shows an edge; it may be wrong either
	// way. nil: nothing is known, and only those who have left count as gone.
	Alive func(edge string) bool
	// Resume is the sequence the daemon asks to continue after, if HasResume:
	// of this partition and epoch, and not above the log's last.
	Resume    uint64
	HasResume bool
	// Epoch is the log's current epoch.
	Epoch eventlog.Epoch
	Now   time.Time
	// MaxAge is how long events are kept; 0: entries are not dropped by age.
	MaxAge time.Duration
}

// Decision says where the connection starts.
type Decision struct {
	// Entry is the daemon's own entry as the returned record has it.
	Entry Entry
	// Resumed: a cursor of this orchestrator or a resume position was found.
	Resumed bool
	// TookOver are the daemons whose entries were removed for this one.
	TookOver []protocol.DaemonID
}

// Start decides where a connection starts and returns the record to be
// written, in one atomic write, before anything is sent. rec is not modified.
// The entry gets a new generation: what the daemon's earlier connections write
// from then on changes nothing but what it has acknowledged on them.
//
//  1. From the daemon's own entry, however old it is. What it has passed over
//     under earlier wishes is gone; nothing that comes after this write is.
//  2. Else from what every entry of the orchestrator has settled (the lowest
//     floor), connected or not: a dead predecessor looks connected for a while,
//     and a living one may still need what lies between (invariant 1). Settled
//     ranges count only where all entries have them. What names a daemon never
//     seen before waits for it: where others have passed such an event, the
//     daemon looks at all from there on that names it.
//  3. Else from the oldest retained event (floor 0); so does a daemon that may be owed
//     what the others have settled, because the record was lost (see Lost).
//
// A resume position overrides all three, lower or higher, and forgets the
// settled ranges above it: the daemon asks for everything after it.
//
// A daemon without an entry speaks for those that are gone (they have left, or
// the directory does not show their edge) and want no more than it does: it
// takes over their ids, and their entries are removed, unless it resumed above
// their floor and so will not be sent all that they lack. One that lives puts its
// entry back (see Apply), and one that returns is answered for by nobody else
// from this write on. The ids in the Remainder it takes over in any case,
// because nobody may ever want all that the Remainder wants; the Remainder stays
// until then. A count of sends goes with the takeover, because the event that
// crashes a daemon crashes it under its next id too. Who comes back wanting less
// than those it speaks for hands them back: their entry stands beside its own. Who
// returns looks where the one that answered for it had yet to look, and who still
// answers for others looks again for what names them and was declined.
//
// Whoever adds an entry also drops those that are gone, and have been for longer
// than events are kept (after they have counted in rule 2), and
// moves the least recently written into the Remainder if the record is full.
func Start(rec Record, req StartRequest) (Record, Decision) { return start(rec, req, defaultLimits) }

// Incomplete reports whether the daemon, or one that it may be the successor
// of, is known to have wanted more than req subscribes to, or may have where the
// record was lost. The rest of a series of subscribes may be on its way then; a
// start without it would pass events that the daemon wants.
func Incomplete(rec Record, req StartRequest) bool {
	if own, known := rec.Daemons[req.Daemon]; known {
		return req.wantsLess(own)
	}
	if lost := rec.Lost.in(req.Now, req.MaxAge); lost.hides(nil) && !Covers(req.Subscriptions, everything) {
		return true
	}
	for id, e := range rec.Daemons {
		if id != Remainder && req.gone(e) && !Covers(req.Subscriptions, e.Subscriptions) {
			return true
		}
	}
	return false
}

func start(rec Record, req StartRequest, lim limits) (Record, Decision) {
	next := rec.at(req.Epoch)
	next.Lost = next.Lost.in(req.Now, req.MaxAge)
	next.takeNames(req.Daemon)
	delete(next.Presumed, req.Daemon)
	d := Decision{Resumed: req.HasResume || rec.Epoch == req.Epoch && len(rec.Daemons) > 0}
	common, generation := settledByAll(next, lim), next.nextGeneration(req.Now)
	entry, known := next.Daemons[req.Daemon]
	switch {
	case !known:
		if entry = common; next.Lost.hides(req.Subscriptions) && !req.HasResume {
			entry, d.Resumed, next.Lost = Entry{}, false, next.Lost.look(req.Subscriptions, lim)
		}
		if of, answered := rec.holder(req.Daemon); answered {
			entry.lacks(next.Daemons[of], lim) // of what names it that one has yet to look at
		}
	case req.wantsLess(entry):
		entry.AnswersFor, next.Lost.Looked = next.handBack(entry, generation), nil
	}
	switch {
	case req.HasResume:
		entry.Floor, entry.Settled, entry.Unnamed = req.Resume, nil, 0
	case known:
		next.answerFor(&entry, entry.AnswersFor...) // of what names them, what it has declined
	}
	if !known {
		entry, d.TookOver = takeOver(next, entry, req, lim)
	}
	if entry.Settles(entry.Sends.Sequence) {
		entry.Sends = Sends{}
	}
	entry.Generation, entry.Edge = generation, req.Edge
	entry.Subscriptions, entry.Written = unite(lim, req.Subscriptions), written(req.Now)
	next.Daemons[req.Daemon] = entry
	next.bound(lim, req.gone, req.Daemon)
	next.boundPresumed()
	if now := settledByAll(next, lim); req.HasResume && now.Floor > common.Floor {
		// Nobody who passed over what lies between has noted whom it names.
		next.await(Anybody, common.Floor+1, req.Now, lim)
	}
	d.Entry = entry
	return next, d
}

// wantsLess reports whether the daemon may want less than its own entry says.
func (req StartRequest) wantsLess(own Entry) bool {
	begun := req.Since > 0 && req.Since == own.Generation
	return !begun && !Covers(req.Subscriptions, own.Subscriptions)
}

// gone reports whether nobody holds a connection of the entry's daemon, as far
// as can be known. The entry itself names the edge to look for, so a daemon
// that has just come is not taken for gone because the directory does not show
// its connection yet.
func (req StartRequest) gone(e Entry) bool {
	return e.Edge == "" || e.Edge != UnknownEdge && req.Alive != nil && !req.Alive(e.Edge)
}

// forgotten reports whether the daemon of an entry has not been here for longer
// than events are kept. It may have been connected for some time after the entry
// was written.
func (req StartRequest) forgotten(e Entry) bool {
	return req.over(e.Written) && (req.gone(e) || e.Edge == UnknownEdge)
}

// over reports whether all is gone from the log that was stored before a time, which is by
// the clock of an edge that may be behind.
func (req StartRequest) over(at time.Time) bool {
	return req.MaxAge > 0 && req.Now.Sub(at) > req.MaxAge+writtenWithin
}

// settledByAll is rule 2, and for an empty record rule 3.
func settledByAll(rec Record, lim limits) Entry {
	var common Entry
	first := true
	for _, e := range rec.Daemons {
		e = e.unnamed(lim)
		if first {
			common, first = Entry{Floor: e.Floor, Settled: e.Settled}, false
			continue
		}
		common.Floor, common.Settled = intersect(common, e, lim.ranges)
	}
	return common
}

// takeOver removes from rec what the daemon of req speaks for from now on and
// what is too old, and returns its entry with what goes over to it.
func takeOver(rec Record, entry Entry, req StartRequest, lim limits) (Entry, []protocol.DaemonID) {
	var removed []protocol.DaemonID
	sends := Sends{}
	for _, id := range rec.byAge() {
		e := rec.Daemons[id]
		covered := req.gone(e) && Covers(req.Subscriptions, e.Subscriptions)
		if covered || id == Remainder {
			entry.AnswersFor = appendIDs(lim, entry.AnswersFor, spokenFor(id, e, req.Daemon)...)
			entry.Sent = max(entry.Sent, e.Sent)
			sends = olderSends(entry, sends, e.Sends)
		}
		switch {
		case covered && (entry.Floor <= e.Floor || !req.HasResume):
			entry.lacks(e, lim)
			removed = append(removed, id)
			rec.remove(id)
		case req.forgotten(e):
			delete(rec.Daemons, id)
			if id != Remainder {
				rec.await(id, e.Floor+1, req.Now, lim)
			}
		}
	}
	entry.Sends = sends
	if !req.HasResume {
		rec.answerFor(&entry, append(slices.Clone(entry.AnswersFor), req.Daemon, Anybody)...)
	}
	delete(rec.Awaited, req.Daemon)
	for id, a := range rec.Awaited {
		if req.over(a.Written) {
			delete(rec.Awaited, id)
		}
	}
	return entry, removed
}

// handBack gives those that an entry speaks for an entry of their own, under
// the id of the last of them, which has gone: a daemon that comes back wanting
// less than they did cannot speak for them any more. Those whose entry was left
// where it is, behind a resume position, still have it. It returns for whom the
// daemon speaks from now on.
func (rec Record) handBack(e Entry, generation uint64) []protocol.DaemonID {
	e.AnswersFor = slices.DeleteFunc(slices.Clone(e.AnswersFor), func(id protocol.DaemonID) bool {
		_, known := rec.Daemons[id]
		return known
	})
	if len(e.AnswersFor) == 0 {
		return nil
	}
	last := len(e.AnswersFor) - 1
	id := e.AnswersFor[last]
	e.AnswersFor, e.Edge, e.Generation = e.AnswersFor[:last:last], "", generation
	rec.answerFor(&e, append(slices.Clone(e.AnswersFor), id)...)
	rec.Daemons[id] = e
	return nil
}

// spokenFor returns the ids that an entry stands for, as another daemon takes
// them over: its own last, as the newest.
func spokenFor(id protocol.DaemonID, e Entry, by protocol.DaemonID) []protocol.DaemonID {
	ids := append(slices.Clip(e.AnswersFor), id)
	return slices.DeleteFunc(ids, func(id protocol.DaemonID) bool { return id == by || id == Remainder })
}

// byAge returns the record's ids, least recently written first.
func (rec Record) byAge() []protocol.DaemonID {
	return slices.SortedFunc(maps.Keys(rec.Daemons), func(a, b protocol.DaemonID) int {
		return cmp.Or(rec.Daemons[a].Written.Compare(rec.Daemons[b].Written), cmp.Compare(a, b))
	})
}

// bound moves entries of a record that is too full into its Remainder: those
// that seem gone first, least recently written first; kept ones last. Nothing
// is lost with them (invariant 1): whoever starts next starts from the
// Remainder's floor, and it stays until a daemon wants all that it wants.
func (rec Record) bound(lim limits, gone func(Entry) bool, kept ...protocol.DaemonID) {
	if len(rec.Daemons) <= lim.entries {
		return
	}
	rank := func(id protocol.DaemonID) int {
		switch {
		case slices.Contains(kept, id):
			return 2
		case !gone(rec.Daemons[id]):
			return 1
		}
		return 0
	}
	leaving := rec.byAge()
	slices.SortStableFunc(leaving, func(a, b protocol.DaemonID) int { return cmp.Compare(rank(a), rank(b)) })
	for _, id := range leaving {
		if len(rec.Daemons) <= lim.entries {
			return
		}
		if id != Remainder {
			rec.fold(id, lim)
		}
	}
}

// fold moves one entry into the Remainder.
func (rec Record) fold(id protocol.DaemonID, lim limits) {
	e := rec.Daemons[id]
	rec.remove(id)
	r, ok := rec.Daemons[Remainder]
	if !ok {
		r = Entry{Floor: e.Floor, Settled: e.Settled}
	}
	r.Floor, r.Settled = intersect(r, e, lim.ranges) // also what was Unnamed, at the price of duplicates
	r.Subscriptions = unite(lim, r.Subscriptions, e.Subscriptions)
	r.AnswersFor = appendIDs(lim, r.AnswersFor, spokenFor(id, e, Remainder)...)
	r.Sends = olderSends(r, r.Sends, e.Sends)
	r.Sent = max(r.Sent, e.Sent)
	if e.Written.After(r.Written) {
		r.Written = e.Written
	}
	rec.Daemons[Remainder] = r
}

// written is a time as the record keeps it.
func written(t time.Time) time.Time { return time.UnixMilli(t.UnixMilli()).UTC() }
