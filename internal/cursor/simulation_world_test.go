package cursor

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	worldKeep   = 14 // newest events retained
	worldWindow = 4  // unsettled events of a session
)

type simEvent struct {
	kind   protocol.EventType
	ack    bool
	to     protocol.DaemonID
	wanted bool // somebody had asked for its kind before it was published
	acked  bool
}

// simDaemon is a process that comes back, with the same id or a new one.
type simDaemon struct {
	kinds   string // of "abc"
	fresh   bool   // a new id at every login
	resumes bool   // hands back the position up to which it has processed all
	ever    bool
	id      protocol.DaemonID
	session *simSession // its live connection

	position uint64
	epoch    eventlog.Epoch // of the position; "" none
}

// simSession is a connection as its edge sees it; it may be half-open.
type simSession struct {
	daemon     *simDaemon
	id         protocol.DaemonID
	epoch      eventlog.Epoch
	start      Entry
	at         uint64 // considered up to here
	out        []uint64
	first      uint64 // the highest sent
	subscribed bool
	dead       bool
	left       bool
	cached     Record // of its start
}

type world struct {
	r         *rand.Rand
	mistake   mistake
	lim       limits
	encoded   bool // the record passes through its JSON
	rollbacks bool
	log       map[uint64]*simEvent
	last      uint64
	epochs    uint64
	record    Record
	pending   []unsaved // saves of edges that are yet to be written
	daemons   []*simDaemon
	sessions  []*simSession
	view      map[protocol.DaemonID]bool
	logins    int
	now       time.Time
	violation error
}

func newWorld(r *rand.Rand, m mistake) *world {
	w := &world{
		r: r, mistake: m, lim: defaultLimits, encoded: r.IntN(20) == 0, rollbacks: r.IntN(3) == 0,
		log: map[uint64]*simEvent{}, view: map[protocol.DaemonID]bool{}, now: time.UnixMilli(1).UTC(),
	}
	if r.IntN(3) == 0 {
		w.lim.entries = 2 + r.IntN(3)
	}
	if r.IntN(3) == 0 {
		w.lim.ranges = 1 + r.IntN(2)
	}
	for range 1 + r.IntN(3) {
		w.daemons = append(w.daemons, &simDaemon{
			kinds: []string{"a", "b", "ab", "abc"}[r.IntN(4)], fresh: r.Float64() < .6, resumes: r.IntN(4) == 0,
		})
	}
	return w
}

func (w *world) epoch() eventlog.Epoch { return worldEpochs[w.epochs] }

// worldEpochs are as many as a run may need.
var worldEpochs = func() (list []eventlog.Epoch) {
	for counter := range uint64(simulationSteps + 1) {
		list = append(list, eventlog.NewEpoch(time.Unix(1, 0), counter))
	}
	return list
}()

func (w *world) chance(p float64) bool { return w.r.Float64() < p }

func (d *simDaemon) wants(t protocol.EventType) bool { return strings.Contains(d.kinds, t.Prefix()) }

func (d *simDaemon) subscriptions() []protocol.Subscription {
	var subs []protocol.Subscription
	for _, k := range d.kinds {
		subs = append(subs, protocol.Subscription{Pattern: protocol.Pattern(string(k) + ".*")})
	}
	return subs
}

func (w *world) publish() {
	w.last++
	e := &simEvent{kind: protocol.EventType("abc"[w.r.IntN(3):][:1] + ".x"), ack: w.chance(.8)}
	if d := w.daemons[w.r.IntN(len(w.daemons))]; w.chance(.15) && d.session != nil {
		e.to = d.session.id
		e.wanted = d.session.subscribed && d.wants(e.kind)
	} else {
		e.wanted = slices.ContainsFunc(w.daemons, func(d *simDaemon) bool { return d.ever && d.wants(e.kind) })
	}
	w.log[w.last] = e
	maps.DeleteFunc(w.log, func(q uint64, _ *simEvent) bool { return q+worldKeep <= w.last })
}

// rollback restores the log from a backup: its newest events are gone, their
// sequences will be used again, and the epoch rises.
func (w *world) rollback() {
	lost := min(w.last, w.r.Uint64N(worldKeep))
	w.last -= lost
	maps.DeleteFunc(w.log, func(q uint64, _ *simEvent) bool { return q > w.last })
	w.epochs++
}

func (w *world) login(d *simDaemon) {
	if d.fresh || d.id == "" {
		w.logins++
		d.id = protocol.DaemonID(fmt.Sprintf("d%d", w.logins))
	}
	for _, x := range w.sessions {
		if x.id == d.id && w.view[x.id] { // the newest wins, where the directory shows the older
			x.dead = true
		}
	}
	d.session = &simSession{daemon: d, id: d.id, epoch: w.epoch()}
	w.sessions = append(w.sessions, d.session)
	if w.mistake == skipEarly {
		w.begin(d.session)
	}
}

func (w *world) subscribe(s *simSession) {
	if s.subscribed {
		return
	}
	s.subscribed, s.daemon.ever = true, true
	if w.mistake != skipEarly {
		w.begin(s)
	}
}

// begin is Store.Begin with Start; the store's compare-and-set makes it atomic.
func (w *world) begin(s *simSession) {
	d := s.daemon
	s.epoch = w.epoch()
	req := StartRequest{
		Daemon: s.id, Subscriptions: d.subscriptions(), Epoch: s.epoch, Now: w.tick(),
		Connected: func(id protocol.DaemonID) bool { return w.view[id] },
		HasResume: d.resumes && d.epoch == s.epoch && d.position <= w.last, Resume: d.position,
	}
	next, decision := w.start(req)
	w.write(next)
	s.start, s.at, s.out, s.first, s.cached = decision.Entry, decision.Entry.Floor, nil, 0, next
}

// tick passes time for what is written; several writes may share a moment.
func (w *world) tick() time.Time {
	w.now = w.now.Add(time.Duration(w.r.IntN(2)) * time.Millisecond)
	return w.now
}

func (w *world) write(rec Record) {
	if w.mistake == dropEvicted {
		delete(rec.Daemons, Remainder)
	}
	if w.encoded {
		data, err := rec.Encode()
		if err == nil {
			rec, err = Decode(data)
		}
		if err != nil {
			w.violation = err
		}
	}
	w.record = rec
}

func (w *world) read(s *simSession) {
	if !s.subscribed && w.mistake != skipEarly {
		return
	}
	if s.epoch != w.epoch() { // its edge learns that the log was rolled back
		s.epoch, s.at, s.out, s.first = w.epoch(), 0, nil, 0
		s.start = Entry{AnswersFor: s.start.AnswersFor, Subscriptions: s.start.Subscriptions}
	}
	upto := w.last - min(w.last, []uint64{0, 0, 1, 3}[w.r.IntN(4)]) // a replica may lag
	for q := s.at + 1; q <= upto; q++ {
		if len(s.out) >= worldWindow {
			return
		}
		s.at = q
		if e, ok := w.log[q]; ok && w.mayBeSent(s, q, e) {
			if q <= s.first {
				w.violation = fmt.Errorf("%d sent after %d", q, s.first)
			}
			s.first = q
			if e.ack {
				s.out = append(s.out, q)
			}
		}
	}
}

func (w *world) mayBeSent(s *simSession, q uint64, e *simEvent) bool {
	mine := e.to == "" || e.to == s.id || slices.Contains(s.start.AnswersFor, e.to)
	return mine && s.subscribed && s.daemon.wants(e.kind) && !s.start.Settles(q)
}

// state is the entry that the session saves.
func (s *simSession) state(now time.Time) Entry {
	e := Entry{
		Floor: s.at, Settled: slices.Clone(s.start.Settled), Subscriptions: s.daemon.subscriptions(),
		AnswersFor: s.start.AnswersFor, Sent: s.first, Left: s.left, Written: now,
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
	return e
}

// save is Store.Save: it is written now, later, never, or before an older one.
func (w *world) save(s *simSession) {
	if !s.subscribed && w.mistake != skipEarly {
		return
	}
	own := unsaved{}
	own.add(s.epoch, w.key(s.id), s.state(w.tick()), w.lim)
	if w.chance(.3) {
		w.pending = append(w.pending, own)
		return
	}
	w.apply(s, own)
}

// flushPending writes a late save, or loses it with its edge.
func (w *world) flushPending() {
	if len(w.pending) == 0 {
		return
	}
	i := w.r.IntN(len(w.pending))
	if w.chance(.8) {
		w.apply(nil, w.pending[i])
	}
	if w.chance(.8) { // else it is written again: the answer was lost
		w.pending = slices.Delete(w.pending, i, i+1)
	}
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
	s.out = slices.Delete(s.out, i, i+1)
	s.daemon.position, s.daemon.epoch = s.first, s.epoch
	if len(s.out) > 0 {
		s.daemon.position = s.out[0] - 1
	}
}

func (w *world) end(s *simSession) {
	w.sessions = slices.DeleteFunc(w.sessions, func(x *simSession) bool { return x == s })
	if s.daemon.session == s {
		s.daemon.session = nil
	}
}

func (w *world) step() {
	k, d := w.r.Float64(), w.daemons[w.r.IntN(len(w.daemons))]
	var s *simSession
	if len(w.sessions) > 0 {
		s = w.sessions[w.r.IntN(len(w.sessions))]
	}
	switch {
	case k < .22:
		w.publish()
	case k < .23 && w.rollbacks:
		w.rollback()
	case k < .34:
		if d.session == nil {
			w.login(d)
		}
	case k < .42:
		if d.session != nil {
			w.subscribe(d.session)
		}
	case k < .45:
		w.flushPending()
	case s == nil:
	case k < .60:
		w.read(s)
	case k < .76:
		w.ack(s)
	case k < .82:
		w.save(s)
	case k < .86: // the process or its network dies; the socket stays half-open
		d.session = nil
	case k < .90: // found out: heartbeats missed, or the newest won
		if s.daemon.session != s || s.dead {
			w.save(s)
			w.end(s)
		}
	case k < .92: // orderly close
		s.left = true
		w.save(s)
		w.end(s)
	case k < .94: // the edge crashes: nothing flushed
		w.end(s)
	default:
		w.gossip()
	}
}

// gossip lets the directory see some of what has changed, which takes a while.
func (w *world) gossip() {
	w.now = w.now.Add(time.Duration(w.r.IntN(8)) * time.Second)
	held := map[protocol.DaemonID]bool{}
	for _, s := range w.sessions {
		held[s.id] = true
		if w.chance(.7) {
			w.view[s.id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.view)) {
		if !held[id] && w.chance(.7) {
			delete(w.view, id)
		}
	}
}
