package cursor

import (
	"maps"
	"slices"
	"time"
)

// loseBucket has the store forget the record, or have an older one again. Who is
// connected is put back, and the record says that it was lost. Where it cannot be
// told, because nobody is there whose start it does not know, what the others were
// owed goes with it, and with the notes what names somebody yet to come. Of those that
// keep their id a connection that is half-open may write later.
func (w *world) loseBucket() {
	for _, s := range slices.Clone(w.sessions) {
		if w.record.Superseded(w.key(s.id), s.start.Generation) {
			w.end(s)
		}
	}
	w.pending = slices.DeleteFunc(w.pending, func(l late) bool { return w.record.Superseded(l.by.daemon, l.by.generation) })
	w.record, w.now = pick(w, Record{}, w.older), w.now.Add(time.Second)
	if slices.ContainsFunc(w.daemons, w.knowsOfTheLoss) {
		w.loseNames()
	} else {
		w.loseOwed()
	}
	for _, s := range slices.Clone(w.sessions) {
		if s.daemon.session == s || s.daemon.fresh > 0 {
			w.reload(s)
		}
	}
}

func pick[T any](w *world, from ...T) T { return from[w.r.IntN(len(from))] }

// knowsOfTheLoss reports whether the daemon has a connection whose start the record
// does not know.
func (w *world) knowsOfTheLoss(d *simDaemon) bool {
	s := d.session
	if s == nil || !s.running {
		return false
	}
	last, _ := w.record.LastStart(w.key(s.id))
	return last < s.start.Generation
}

// loseNames: nobody answers for those who come back under another id.
func (w *world) loseNames() {
	for _, d := range w.daemons {
		if d.fresh > 0 {
			w.loseName(d)
		}
	}
	for _, e := range w.log {
		maps.DeleteFunc(e.owed, func(d *simDaemon, _ bool) bool {
			return e.to != "" && d.fresh > 0 && (d.session == nil || e.to != d.session.id)
		})
	}
}

// loseName: nobody keeps what names a daemon that has no connection.
func (w *world) loseName(d *simDaemon) {
	if !slices.ContainsFunc(w.sessions, func(s *simSession) bool { return s.running && s.id == d.beganAs }) {
		d.beganAs = ""
	}
}

func (w *world) loseOwed() {
	for _, d := range w.daemons {
		if d.session != nil && d.session.running {
			continue
		}
		d.begun = ""
		w.loseName(d)
	}
	for _, e := range w.log {
		e.away, e.lost = nil, true
		maps.DeleteFunc(e.owed, func(d *simDaemon, _ bool) bool { return d.begun == "" || e.to != "" && e.to != d.session.id })
	}
}
