package cursor

import (
	"fmt"
	"slices"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// simSession is a connection as its edge sees it; it may be half-open.
type simSession struct {
	daemon     *simDaemon
	id         protocol.DaemonID
	kinds      string
	edge       string
	epoch      eventlog.Epoch
	start      Entry
	names      []protocol.DaemonID // that it answers for, as far as it knows
	at         uint64              // considered up to here
	out        []uint64
	first      uint64 // the highest sent
	acked      []Range
	passed     map[protocol.DaemonID]uint64
	narrowed   bool // it has wanted less than it did since its last report
	subscribed bool
	running    bool
	dead       bool // replaced, and to be ended
	ended      bool
	cached     Record // of its start
}

func (w *world) read(s *simSession) {
	if !s.running {
		return
	}
	if s.epoch != w.epoch() { // its edge learns that the log was rolled back
		s.epoch, s.at, s.out, s.first, s.acked, s.passed = w.epoch(), 0, nil, 0, nil, nil
		s.start = Entry{Generation: s.start.Generation}
	}
	upto := w.last - min(w.last, []uint64{0, 0, 1, 3}[w.r.IntN(4)]) // a replica may lag
	for q := s.at + 1; q <= upto; q++ {
		if len(s.out) >= worldWindow {
			return
		}
		s.at = q
		if e, ok := w.log[q]; ok {
			w.consider(s, q, e)
		}
	}
}

func (w *world) consider(s *simSession, q uint64, e *simEvent) {
	mine := e.to == s.id || slices.Contains(s.names, e.to)
	switch {
	case s.start.Settles(q) || q <= s.start.Unnamed && !mine:
	case e.to != "" && !mine || !s.subscribed || !matches(s.kinds, e.kind):
		s.pass(e.to, q)
	default:
		if q <= s.first {
			w.violation = fmt.Errorf("%d sent after %d", q, s.first)
		}
		s.first = q
		if e.ack {
			s.out = append(s.out, q)
		}
	}
}

// progress is what the session reports.
func (w *world) progress(s *simSession, last bool) Progress {
	e := Entry{
		Generation: s.start.Generation, Edge: s.edge, Floor: s.at, Settled: slices.Clone(s.start.Settled), Unnamed: s.start.Unnamed,
		Subscriptions: subscriptionsTo(s.kinds), AnswersFor: s.names, Sent: s.first, Written: w.tick(),
	}
	if last {
		e.Edge = ""
	}
	if len(s.out) > 0 {
		e.Floor = s.out[0] - 1
	}
	for i, q := range s.out {
		last := s.at
		if i+1 < len(s.out) {
			last = s.out[i+1] - 1
		}
		if q < last {
			e.Settled = append(e.Settled, Range{q + 1, last})
		}
	}
	e.Floor, e.Settled = normalize(e.Floor, e.Settled, w.lim.ranges)
	p := Progress{Epoch: s.epoch, Entry: e, Acked: s.acked, Passed: s.passed, Narrowed: s.narrowed}
	s.acked, s.passed, s.narrowed = nil, nil, false
	return p
}

// late is a report that its edge has yet to write.
type late struct {
	edge string
	by   writer
	what Progress
}

// save is what the store does with a report: it is written now or later.
func (w *world) save(s *simSession) {
	if s.running {
		w.hand(s, w.progress(s, false))
	}
}

// leave ends a session with its last word.
func (w *world) leave(s *simSession) {
	w.end(s)
	if s.running {
		w.hand(s, w.progress(s, true))
	}
}

func (w *world) hand(s *simSession, p Progress) {
	l := late{s.edge, writer{w.key(s.id), s.start.Generation}, p}
	if i := slices.IndexFunc(w.pending, func(x late) bool { return x.by == l.by }); i >= 0 {
		l.what = w.pending[i].what.Then(p)
		w.pending = slices.Delete(w.pending, i, i+1)
	}
	if w.chance(.3) {
		w.pending = append(w.pending, l)
		return
	}
	w.apply(s, l)
}

// flushPending writes a late save.
func (w *world) flushPending() {
	if len(w.pending) == 0 {
		return
	}
	i := w.r.IntN(len(w.pending))
	l := w.pending[i]
	w.pending = slices.Delete(w.pending, i, i+1)
	w.apply(nil, l)
	if w.chance(.2) { // it is written again: the answer was lost
		w.pending = append(w.pending, l)
	}
}

// reload is what a session does when its edge learns of a record.
func (w *world) reload(s *simSession) {
	e, known := w.record.Daemons[w.key(s.id)]
	switch {
	case !s.running:
	case w.record.Superseded(w.key(s.id), s.start.Generation):
		w.leave(s)
	case (!known || e.Generation < s.start.Generation) && w.nested: // it will with its next save
	case !known || e.Generation < s.start.Generation: // taken over while it lives, or lost
		w.nested = true
		defer func() { w.nested = false }()
		w.apply(s, late{s.edge, writer{w.key(s.id), s.start.Generation}, w.progress(s, false)})
	default:
		s.names = e.AnswersFor
		w.decline(s, func(e *simEvent) bool { return e.to != "" && e.to != s.id && !slices.Contains(s.names, e.to) })
	}
}

// decline settles what a session has in hand and does not want to be sent again.
func (w *world) decline(s *simSession, unwanted func(*simEvent) bool) {
	s.out = slices.DeleteFunc(s.out, func(q uint64) bool {
		e, ok := w.log[q]
		if !ok || s.epoch != w.epoch() || !unwanted(e) {
			return false
		}
		s.pass(e.to, q)
		return true
	})
}

// pass notes whom an event names that is passed over.
func (s *simSession) pass(to protocol.DaemonID, q uint64) {
	if to == "" || to == s.id {
		return
	}
	if s.passed == nil {
		s.passed = map[protocol.DaemonID]uint64{}
	}
	NotePassed(s.passed, to, q)
}

// ack comes from the daemon, so only by its live connection.
func (w *world) ack(s *simSession) {
	if len(s.out) == 0 || s.daemon.session != s {
		return
	}
	i := w.r.IntN(len(s.out))
	if e, ok := w.log[s.out[i]]; ok && s.epoch == w.epoch() {
		e.acked = true
	}
	s.acked = AddAcked(s.acked, Range{s.out[i], s.out[i]})
	s.out = slices.Delete(s.out, i, i+1)
	s.daemon.position, s.daemon.epoch = s.first, s.epoch
	if len(s.out) > 0 {
		s.daemon.position = s.out[0] - 1
	}
}

// key is where a daemon's entry stands.
func (w *world) key(id protocol.DaemonID) protocol.DaemonID {
	if w.mistake == shared {
		return "all"
	}
	return id
}

// apply is what Store does with a report: read, put it on top, write. s is nil
// for a report of long ago.
func (w *world) apply(s *simSession, l late) {
	rec := w.record
	l.what = w.distort(l)
	switch {
	case w.mistake == keepEpoch && l.what.Epoch.Newer(rec.Epoch):
		rec.Epoch = l.what.Epoch
	case w.mistake == blindWrite && s != nil:
		rec = s.cached
	}
	next := unsaved{l.by: l.what}.applyTo(rec, w.lim)
	if w.mistake == keepName {
		for id, e := range next.Daemons {
			e.AnswersFor = rec.Daemons[id].AnswersFor
			next.Daemons[id] = e
		}
	}
	if w.mistake == unsuspecting {
		next.Lost = Lost{}
	}
	if !worthWriting(w.record, next) {
		return
	}
	w.write(l.edge, next)
}
