package cursor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// settle lets every daemon come back and work until nothing is left, and
// reports what was owed and never acknowledged. New ids log in once more after
// the directory has learned who is gone: what is addressed to a predecessor
// that still looked connected waits for that. And they no longer resume: who
// resumes behind what was addressed to such a predecessor has declined it, and
// the predecessor's entry keeps it for the next who does not.
func (w *world) settle() error {
	for round := range 12 {
		for _, d := range w.daemons {
			d.resumes = false
			if d.session != nil && d.fresh && round%3 == 1 {
				w.save(d.session)
				w.end(d.session)
			}
			if round > 6 || w.chance(.5) {
				w.heal()
			}
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
	if w.violation != nil {
		return w.violation
	}
	for _, q := range slices.Sorted(maps.Keys(w.log)) {
		if e := w.log[q]; e.ack && e.wanted && !e.acked {
			return fmt.Errorf("event %d of %d (%s, to %q) is lost; record %s", q, w.last, e.kind, e.to, w.record)
		}
	}
	return nil
}

// heal ends what is half-open and brings the directory up to date.
func (w *world) heal() {
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
