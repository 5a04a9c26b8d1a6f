package cursor

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// settle lets every daemon come back and work until nothing is left, and
// reports what was owed and never acknowledged.
//
// What is addressed to one daemon is owed later than the rest: when new ids
// have logged in once more after the directory has learned who is gone, wanting
// all that any predecessor of them may have wanted, and without a resume
// position (who resumes behind what was addressed to such a predecessor has
// declined it; the predecessor's entry keeps it for the next).
func (w *world) settle() error {
	for _, s := range slices.Clone(w.sessions) {
		w.reload(s)
	}
	for range 3 {
		w.workOff()
	}
	if err := w.owed(func(e *simEvent) bool { return e.to == "" }); err != nil {
		return err
	}
	for range 3 {
		w.heal()
		for _, d := range w.daemons {
			d.resumes, d.fickle, d.kinds, d.fresh = false, false, "abc", math.Ceil(d.fresh)
			if d.session != nil {
				w.leave(d.session)
			}
		}
		w.heal()
		w.workOff()
	}
	if err := w.owed(func(*simEvent) bool { return true }); err != nil {
		return err
	}
	return w.addressOnly()
}

// addressOnly checks that what names a daemon that is there is sent to no other.
// In a record too small for those that live, they stand for one another.
func (w *world) addressOnly() error {
	w.heal()
	if w.lim.entries <= 2*len(w.daemons) {
		return nil
	}
	clear(w.view) // newcomers see nobody, and take over who lives
	for _, d := range w.daemons {
		if d.fresh > 0 && d.session != nil {
			w.leave(d.session)
			w.workOff()
		}
	}
	w.heal()
	for _, d := range w.daemons {
		q := w.publishTo(d.id)
		w.workOff()
		for _, other := range w.daemons {
			if other != d && other.session != nil && other.session.first == q {
				return fmt.Errorf("event %d names %s and is sent to %s too; record %s", q, d.id, other.id, w.record)
			}
		}
	}
	return w.violation
}

// workOff lets every daemon work until nothing is left for it.
func (w *world) workOff() {
	for len(w.starts) > 0 {
		w.startNext(0)
	}
	for _, d := range w.daemons {
		for range 8 { // it may be superseded by one that begins late
			if d.session == nil {
				w.login(d)
			}
			if d.session != nil {
				w.subscribe(d.session)
			}
			for len(w.starts) > 0 {
				w.startNext(0)
			}
		}
		for range 12 {
			if d.session == nil {
				break // superseded
			}
			w.read(d.session)
			for len(d.session.out) > 0 {
				w.ack(d.session)
			}
		}
	}
}

// owed reports a violation, among them an unacknowledged event of those meant.
func (w *world) owed(meant func(*simEvent) bool) error {
	if w.violation != nil {
		return w.violation
	}
	for _, q := range slices.Sorted(maps.Keys(w.log)) {
		if e := w.log[q]; e.ack && len(e.owed) > 0 && !e.acked && meant(e) {
			return fmt.Errorf("event %d of %d (%s, to %q) is lost; record %s", q, w.last, e.kind, e.to, w.record)
		}
	}
	return nil
}

// heal ends what is half-open, writes what is yet to be written, brings the
// directory up to date, and lets every connection learn of the record.
func (w *world) heal() {
	for len(w.pending) > 0 {
		w.flushPending()
	}
	for _, s := range slices.Clone(w.sessions) {
		if s.daemon.session != s {
			w.leave(s)
		}
	}
	for len(w.pending) > 0 {
		w.flushPending()
	}
	clear(w.view)
	for _, e := range w.edges {
		w.view[e] = true
	}
	for _, s := range slices.Clone(w.sessions) {
		w.reload(s)
	}
	for len(w.pending) > 0 {
		w.flushPending()
	}
}

// String lists the floors, for failures.
func (rec Record) String() string {
	ids := slices.SortedFunc(maps.Keys(rec.Daemons), func(a, b protocol.DaemonID) int { return cmp.Compare(a, b) })
	text := string(rec.Epoch)
	for _, id := range ids {
		e := rec.Daemons[id]
		text += fmt.Sprintf(" %s@%d/%d g%d %s for %v;", id, e.Floor, e.Unnamed, e.Generation, e.Edge, e.AnswersFor)
	}
	return text + fmt.Sprint(rec.Awaited)
}
