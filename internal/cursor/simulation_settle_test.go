package cursor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// settle lets every daemon come back and work until nothing is left, and
// reports what was owed and never acknowledged.
//
// What is addressed to one daemon is owed later than the rest: when new ids
// have logged in once more after the directory has learned who is gone (a
// predecessor that still looks connected is not spoken for), and without a
// resume position (who resumes behind what was addressed to such a predecessor
// has declined it; the predecessor's entry keeps it for the next).
func (w *world) settle() error {
	for range 3 {
		w.workOff()
	}
	if err := w.owed(func(e *simEvent) bool { return e.to == "" }); err != nil {
		return err
	}
	for range 3 {
		w.heal()
		for _, d := range w.daemons {
			d.resumes = false
			if d.fresh {
				d.session.left = true
				w.save(d.session)
				w.end(d.session)
			}
		}
		w.heal()
		w.workOff()
	}
	return w.owed(func(*simEvent) bool { return true })
}

// workOff lets every daemon work until nothing is left for it.
func (w *world) workOff() {
	for _, d := range w.daemons {
		if d.session == nil {
			w.login(d)
		}
		w.subscribe(d.session)
		for range 12 {
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
		if e := w.log[q]; e.ack && e.wanted && !e.acked && meant(e) {
			return fmt.Errorf("event %d of %d (%s, to %q) is lost; record %s", q, w.last, e.kind, e.to, w.record)
		}
	}
	return nil
}

// heal ends what is half-open and brings the directory up to date, which takes
// longer than a daemon that has left without a word is taken for one just come.
func (w *world) heal() {
	w.now = w.now.Add(2 * directoryDelay)
	w.sessions = slices.DeleteFunc(w.sessions, func(s *simSession) bool { return s.daemon.session != s })
	clear(w.view)
	for _, s := range w.sessions {
		w.view[s.id] = true
	}
}

// String lists the floors, for failures.
func (rec Record) String() string {
	ids := slices.SortedFunc(maps.Keys(rec.Daemons), func(a, b protocol.DaemonID) int { return cmp.Compare(a, b) })
	text := string(rec.Epoch)
	for _, id := range ids {
		text += fmt.Sprintf(" %s@%d", id, rec.Daemons[id].Floor)
	}
	return text
}
