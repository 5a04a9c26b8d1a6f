package presence

import (
	"time"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Status is what Neolith shows of an orchestrator (its enum VPStatus), or Gone.
type Status string

// The statuses that the gateway writes.
const (
	Online Status = "ONLINE"
	Away   Status = "AWAY"
	Busy   Status = "BUSY"
	// Gone is of an orchestrator without connections; the store knows what Neolith
	// is to show then.
	Gone Status = "GONE"

	unknown Status = ""
)

// statusOf translates what a daemon says of itself.
var statusOf = map[protocol.Status]Status{
	protocol.StatusActive: Online,
	protocol.StatusIdle:   Away,
	protocol.StatusBusy:   Busy,
}

// Term numbers the times that somebody has become the writer of a partition.
// Whoever writes names its term, so that only the last one can.
type Term int64

// Change is a status to be written.
type Change struct {
	Partition    event.Partition
	Term         Term
	Orchestrator event.Token
	Status       Status
}

// tracker knows for the partitions that are its own which status is to be
// written. It is pure: no clock, no lock, no I/O.
//
// What has been written is in the database and who is connected is in the
// directory, so a partition can be forgotten and loaded again at any time, and
// only what daemons have said of themselves lives here alone. That is what
// bounds it: it remembers who is connected, and up to maxLeaving who was.
type tracker struct {
	grace      time.Duration
	maxLeaving int // of one partition
	partitions map[event.Partition]*tracked
}

// tracked is a partition.
type tracked struct {
	loaded bool // what has been written is known, and may be written under term
	term   Term
	loadAt time.Time // not loaded before
	// entries are by orchestrator.
	entries map[event.Token]*entry
	// unwritten are those whose wanted status is not the written one. While a
	// change is being written its entry stays in here. Empty unless loaded.
	unwritten map[event.Token]struct{}
	leaving   []leaving // oldest first
	gone      int       // entries of those who are not connected
}

// entry is an orchestrator that is connected, or whose end is not written.
type entry struct {
	connected bool
	wanted    Status    // unknown before it is known what was written
	written   Status    // in the database; unknown while a change is being written
	goneAt    time.Time // when Gone becomes wanted; zero if connected, or already wanted
}

type leaving struct {
	orchestrator event.Token
	at           time.Time
}

func newTracker(grace time.Duration, maxLeaving int) *tracker {
	return &tracker{grace: grace, maxLeaving: maxLeaving, partitions: make(map[event.Partition]*tracked)}
}

// begin makes a partition one's own. connected are the orchestrators that have
// connections now.
func (t *tracker) begin(p event.Partition, connected []event.Token) {
	part := &tracked{entries: make(map[event.Token]*entry, len(connected)), unwritten: make(map[event.Token]struct{})}
	for _, o := range connected {
		part.entries[o] = &entry{connected: true}
	}
	t.partitions[p] = part
}

// end gives a partition away.
func (t *tracker) end(p event.Partition) { delete(t.partitions, p) }

// wanting lists the partitions that have to be loaded.
func (t *tracker) wanting(now time.Time) []event.Partition {
	var list []event.Partition
	for p, part := range t.partitions {
		if !part.loaded && !now.Before(part.loadAt) {
			list = append(list, p)
		}
	}
	return list
}

// load says what has been written of a partition, and under which term it is
// written from now on. An orchestrator that is shown as connected and is not
// gets the time of grace: it may just be on its way to another edge.
func (t *tracker) load(p event.Partition, term Term, shown map[event.Token]Status, now time.Time) {
	part := t.partitions[p]
	if part == nil {
		return
	}
	part.loaded, part.term = true, term
	for _, e := range part.entries {
		e.written = Gone
	}
	for o, status := range shown {
		e := part.entries[o]
		if e == nil {
			e = &entry{connected: true}
			part.entries[o] = e
			part.leave(o, e, now.Add(t.grace))
		}
		e.written = status
	}
	for o, e := range part.entries {
		switch {
		case e.wanted != unknown:
		case e.connected && e.written == Gone:
			e.wanted = Online
		default:
			e.wanted = e.written // BUSY stays BUSY when its writer changes
		}
		part.note(o, e)
	}
}

// lose says that somebody else has become the writer of a partition. It is not
// loaded before a time, so that two who both take it for their own do not fight.
func (t *tracker) lose(p event.Partition, until time.Time) {
	if part := t.partitions[p]; part != nil {
		part.unload()
		part.loadAt = until
	}
}

// connect says that an orchestrator has a connection.
func (t *tracker) connect(p event.Partition, o event.Token) {
	part := t.partitions[p]
	if part == nil {
		return
	}
	e := part.entries[o]
	switch {
	case e == nil:
		e = &entry{written: Gone}
		part.entries[o] = e
	case e.connected:
		return
	default:
		part.gone--
	}
	stayed := !e.goneAt.IsZero() // it was away for less than the grace
	e.connected, e.goneAt = true, time.Time{}
	switch {
	case stayed:
	case part.loaded:
		e.wanted = Online
	default:
		e.wanted = unknown
	}
	part.note(o, e)
}

// disconnect says that an orchestrator has no connection left.
func (t *tracker) disconnect(p event.Partition, o event.Token, now time.Time) {
	part := t.partitions[p]
	if part == nil {
		return
	}
	e := part.entries[o]
	if e == nil || !e.connected {
		return
	}
	part.leave(o, e, now.Add(t.grace))
	if part.gone > t.maxLeaving {
		// Whom the database shows is read again when it answers.
		part.unload()
		part.forgetGone()
	}
}

// beat is what a daemon says of itself.
func (t *tracker) beat(p event.Partition, o event.Token, said protocol.Status) {
	status, known := statusOf[said]
	part := t.partitions[p]
	if !known || part == nil {
		return
	}
	// A heartbeat may be older than the end of its connection.
	if e := part.entries[o]; e != nil && e.connected {
		e.wanted = status
		part.note(o, e)
	}
}

// differs says that somebody else has written another status of an orchestrator
// than the one that was. Of who is connected, what is wanted is written again.
func (t *tracker) differs(p event.Partition, o event.Token) {
	part := t.partitions[p]
	if part == nil {
		return
	}
	if e := part.entries[o]; e != nil && e.connected {
		e.written = unknown
		part.note(o, e)
	}
}

// loaded lists the partitions that may be written.
func (t *tracker) loaded() (list []event.Partition) {
	for p, part := range t.partitions {
		if part.loaded {
			list = append(list, p)
		}
	}
	return list
}

// tick ends times of grace.
func (t *tracker) tick(now time.Time) {
	for _, part := range t.partitions {
		done := 0
		for _, l := range part.leaving {
			if now.Before(l.at) {
				break
			}
			done++
			e := part.entries[l.orchestrator]
			if e == nil || !e.goneAt.Equal(l.at) {
				continue // came back, and may have left again
			}
			e.wanted, e.goneAt = Gone, time.Time{}
			part.note(l.orchestrator, e)
		}
		part.leaving = part.leaving[done:]
	}
}

// leave begins the time of grace.
func (part *tracked) leave(o event.Token, e *entry, goneAt time.Time) {
	e.connected, e.goneAt = false, goneAt
	part.leaving = append(part.leaving, leaving{orchestrator: o, at: goneAt})
	part.gone++
}

// unload stops writing until the partition is loaded again.
func (part *tracked) unload() {
	part.loaded = false
	clear(part.unwritten)
}

func (part *tracked) forgetGone() {
	for o, e := range part.entries {
		if !e.connected {
			delete(part.entries, o)
		}
	}
	part.leaving, part.gone = nil, 0
}

// note keeps the list of what is to be written, and forgets who is gone.
func (part *tracked) note(o event.Token, e *entry) {
	switch {
	case !part.loaded:
	case e.wanted != e.written:
		part.unwritten[o] = struct{}{}
	default:
		delete(part.unwritten, o)
		if !e.connected && e.wanted == Gone {
			delete(part.entries, o)
			part.gone--
		}
	}
}

// changes returns up to most statuses to be written, the newest of each
// orchestrator. They are returned again until written has been called for them.
func (t *tracker) changes(most int) []Change {
	var list []Change
	for p, part := range t.partitions {
		for o := range part.unwritten {
			if len(list) == most {
				return list
			}
			e := part.entries[o]
			// Should nobody hear of the outcome, either may be in the database.
			e.written = unknown
			list = append(list, Change{Partition: p, Term: part.term, Orchestrator: o, Status: e.wanted})
		}
	}
	return list
}

// written says that a change is in the database. It reports whether it was
// still the writer's.
func (t *tracker) written(c Change) bool {
	part := t.partitions[c.Partition]
	if part == nil || !part.loaded || part.term != c.Term {
		return false
	}
	if e := part.entries[c.Orchestrator]; e != nil {
		e.written = c.Status
		part.note(c.Orchestrator, e)
	}
	return true
}

// waiting is how many statuses are to be written.
func (t *tracker) waiting() (n int) {
	for _, part := range t.partitions {
		n += len(part.unwritten)
	}
	return n
}
