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
	// Subscriptions is what the connection has subscribed to.
	Subscriptions []protocol.Subscription
	// Connected reports whether the directory shows the daemon as connected;
	// it may be wrong either way. nil: nothing is known, nobody is taken over.
	Connected func(protocol.DaemonID) bool
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
//
//  1. From the daemon's own entry, however old it is.
//  2. Else from what every entry of the orchestrator has settled (the lowest
//     floor), connected or not: a dead predecessor looks connected for a while,
//     and a living one may still need what lies between (invariant 1). Settled
//     ranges count only where all entries have them.
//  3. Else from the oldest retained event (floor 0).
//
// A resume position overrides all three, lower or higher, and forgets the
// settled ranges above it: the daemon asks for everything after it.
//
// A daemon without an entry speaks for those that are gone, as far as can be
// known (see departed), and want no more than it does: it takes over their ids,
// and their entries are removed, unless it resumed above their floor and so will
// not be sent all that they lack. Where the directory was wrong and such a
// daemon lives, it saves its entry again. The ids in the Remainder it takes over
// in any case, because nobody may ever want all that the Remainder wants; the
// Remainder stays until then. A count of sends goes with the takeover, because
// the event that crashes a daemon crashes it under its next id too.
//
// Whoever adds an entry also drops those that seem gone and were last written
// longer ago than events are kept (after they have counted in rule 2), and
// moves the least recently written into the Remainder if the record is full.
func Start(rec Record, req StartRequest) (Record, Decision) { return start(rec, req, defaultLimits) }

// Incomplete reports whether the daemon, or one that it may be the successor
// of, is known to have wanted more than req subscribes to. The rest of a series
// of subscribes may be on its way then; a start without it would pass events
// that the daemon wants.
func Incomplete(rec Record, req StartRequest) bool {
	if own, known := rec.Daemons[req.Daemon]; known {
		return !Covers(req.Subscriptions, own.Subscriptions)
	}
	for id, e := range rec.Daemons {
		if id != Remainder && req.gone(id) && req.departed(id, e) && !Covers(req.Subscriptions, e.Subscriptions) {
			return true
		}
	}
	return false
}

func start(rec Record, req StartRequest, lim limits) (Record, Decision) {
	next := rec.at(req.Epoch)
	d := Decision{Resumed: req.HasResume || rec.Epoch == req.Epoch && len(rec.Daemons) > 0}
	entry, known := next.Daemons[req.Daemon]
	if !known {
		entry = settledByAll(next, lim)
	}
	if req.HasResume {
		entry.Floor, entry.Settled = req.Resume, nil
	}
	if !known {
		entry, d.TookOver = takeOver(next, entry, req, lim)
	}
	if entry.Settles(entry.Sends.Sequence) {
		entry.Sends = Sends{}
	}
	entry.Subscriptions, entry.Left = unite(lim, req.Subscriptions), false
	entry.Written = written(req.Now)
	next.Daemons[req.Daemon] = entry
	next.bound(lim, req.gone, req.Daemon)
	d.Entry = entry
	return next, d
}

// gone reports whether the daemon seems not to be connected.
func (req StartRequest) gone(id protocol.DaemonID) bool {
	return id == Remainder || req.Connected != nil && !req.Connected(id)
}

// directoryDelay is longer than the directory needs to show a new connection.
const directoryDelay = 5 * time.Second

// departed tells a daemon that has gone from one that has just come: two that
// begin at the same moment on different edges do not see each other in the
// directory yet, and neither may take the other's place, because it would be
// sent what is addressed to the other. Who left in order has said so.
func (req StartRequest) departed(id protocol.DaemonID, e Entry) bool {
	return id == Remainder || e.Left || req.Now.Sub(e.Written) > directoryDelay
}

func (req StartRequest) tooOld(e Entry) bool {
	return req.MaxAge > 0 && req.Now.Sub(e.Written) > req.MaxAge
}

// settledByAll is rule 2, and for an empty record rule 3.
func settledByAll(rec Record, lim limits) Entry {
	var common Entry
	first := true
	for _, e := range rec.Daemons {
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
		if !req.gone(id) {
			continue
		}
		covered := req.departed(id, e) && Covers(req.Subscriptions, e.Subscriptions)
		if covered || id == Remainder {
			entry.AnswersFor = appendIDs(lim, entry.AnswersFor, spokenFor(id, e, req.Daemon)...)
			entry.Sent = max(entry.Sent, e.Sent)
			sends = olderSends(entry, sends, e.Sends)
		}
		switch {
		case covered && entry.Floor <= e.Floor:
			removed = append(removed, id)
			delete(rec.Daemons, id)
		case req.tooOld(e):
			delete(rec.Daemons, id)
		}
	}
	entry.Sends = sends
	return entry, removed
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
func (rec Record) bound(lim limits, gone func(protocol.DaemonID) bool, kept ...protocol.DaemonID) {
	if len(rec.Daemons) <= lim.entries {
		return
	}
	rank := func(id protocol.DaemonID) int {
		switch {
		case slices.Contains(kept, id):
			return 2
		case !gone(id):
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
	delete(rec.Daemons, id)
	r, ok := rec.Daemons[Remainder]
	if !ok {
		r = Entry{Floor: e.Floor, Settled: e.Settled}
	}
	r.Floor, r.Settled = intersect(r, e, lim.ranges)
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
