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

// simEvent is an event of the log. It is owed to a daemon that wanted its kind
// when it was published, or that it names, as long as all later connections of
// that daemon want it too: what matches no subscription of a connection is gone.
// What names a daemon that is away is owed to it if it wants that when it is back.
type simEvent struct {
	kind  protocol.EventType
	ack   bool
	to    protocol.DaemonID
	owed  map[*simDaemon]bool
	away  *simDaemon // that it names and that has had no connection since
	lost  bool       // that somebody may be owed it, with the bucket
	acked bool
}

// simDaemon is a process that comes back, with the same id or a new one.
type simDaemon struct {
	fickle  bool    // wants something else from one connection to the next
	kinds   string  // of "abc", that it wants
	fresh   float64 // how often it has a new id at a login
	resumes bool    // hands back the position up to which it has processed all
	begun   string  // the kinds of its last connection that began
	beganAs protocol.DaemonID
	id      protocol.DaemonID
	session *simSession // its live connection

	position uint64
	epoch    eventlog.Epoch // of the position; "" none
}

type world struct {
	r            *rand.Rand
	mistake      mistake
	lim          limits
	encoded      bool // the record passes through its JSON
	rollbacks    bool
	hints        float64 // how many of them arrive
	crashes      float64
	restless     bool // daemons come and go, and want less, an edge may not notice for long, and the record may be lost
	log          map[uint64]*simEvent
	last         uint64
	epochs       uint64
	record       Record
	older        Record        // as it was some time ago
	pending      []late        // saves of edges that are yet to be written
	starts       []*simSession // starts that are yet to be decided
	daemons      []*simDaemon
	edges        []string
	incarnations int
	sessions     []*simSession
	view         map[string]bool // the edges that the directory shows
	logins       int
	nested       bool // a reload writes the record
	now          time.Time
	violation    error
}

func newWorld(r *rand.Rand, m mistake, restless bool) *world {
	w := &world{
		r: r, mistake: m, lim: defaultLimits, encoded: r.IntN(20) == 0, rollbacks: r.IntN(3) == 0,
		hints: []float64{0, .7, 1}[r.IntN(3)], crashes: []float64{.01, .03}[r.IntN(2)],
		log: map[uint64]*simEvent{}, view: map[string]bool{}, now: time.UnixMilli(1).UTC(), edges: make([]string, 3),
	}
	if w.restless = restless; restless {
		w.hints = []float64{0, 0, .5}[r.IntN(3)]
	} else if r.IntN(3) == 0 {
		w.lim.entries = 2 + r.IntN(3)
	}
	if r.IntN(3) == 0 {
		w.lim.ranges = 1 + r.IntN(2)
	}
	if r.IntN(3) == 0 {
		w.lim.awaited = 1
	}
	for i := range w.edges {
		w.startEdge(i)
		w.view[w.edges[i]] = true
	}
	for range 1 + r.IntN(3) {
		w.daemons = append(w.daemons, &simDaemon{
			kinds: w.kinds(), fickle: r.IntN(2) == 0, fresh: []float64{0, .3, 1, 1}[r.IntN(4)], resumes: r.IntN(3) == 0,
		})
	}
	return w
}

func (w *world) kinds() string { return []string{"a", "b", "ab", "abc"}[w.r.IntN(4)] }

func (w *world) startEdge(i int) {
	w.incarnations++
	w.edges[i] = fmt.Sprintf("edge-%d", w.incarnations)
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

func matches(kinds string, t protocol.EventType) bool { return strings.Contains(kinds, t.Prefix()) }

func subscriptionsTo(kinds string) []protocol.Subscription {
	var subs []protocol.Subscription
	for _, k := range kinds {
		subs = append(subs, protocol.Subscription{Pattern: protocol.Pattern(string(k) + ".*")})
	}
	return subs
}

func (w *world) publish() {
	to := protocol.DaemonID("")
	often := .2
	if w.restless {
		often = .5
	}
	if d := w.daemons[w.r.IntN(len(w.daemons))]; w.chance(often) {
		to = d.id // maybe of a daemon that has logged in and not subscribed yet
	}
	w.publishTo(to)
}

func (w *world) publishTo(to protocol.DaemonID) uint64 {
	w.last++
	e := &simEvent{kind: protocol.EventType("abc"[w.r.IntN(3):][:1] + ".x"), ack: w.chance(.8), to: to, owed: map[*simDaemon]bool{}}
	for _, d := range w.daemons {
		if matches(d.begun, e.kind) && (e.to == "" || e.to == d.beganAs) {
			e.owed[d] = true
		}
		if to != "" && to == d.beganAs && !slices.ContainsFunc(w.sessions, func(s *simSession) bool { return s.id == to }) {
			e.away = d
		}
	}
	w.log[w.last] = e
	if w.last%8 == 0 {
		w.older = w.record
	}
	maps.DeleteFunc(w.log, func(q uint64, _ *simEvent) bool { return q+worldKeep <= w.last })
	return w.last
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
	if d.id == "" || w.chance(d.fresh) {
		w.logins++
		d.id = protocol.DaemonID(fmt.Sprintf("d%d", w.logins))
	}
	if d.fickle {
		d.kinds = w.kinds()
	}
	for _, x := range w.sessions {
		if x.id == d.id && w.chance(.6) { // the newest wins, where the directory shows the older
			x.dead = true
		}
	}
	d.session = &simSession{daemon: d, id: d.id, kinds: d.kinds, edge: w.edges[w.r.IntN(len(w.edges))], epoch: w.epoch()}
	w.sessions = append(w.sessions, d.session)
	if w.mistake == skipEarly {
		w.begin(d.session)
	}
}

func (w *world) subscribe(s *simSession) {
	if s.subscribed {
		return
	}
	s.subscribed = true
	if w.mistake == skipEarly {
		return
	}
	w.starts = append(w.starts, s)
	if w.chance(.8) {
		w.startNext(len(w.starts) - 1)
	}
}

// startNext decides one of the starts that were asked for, which may be late.
func (w *world) startNext(i int) {
	s := w.starts[i]
	w.starts = slices.Delete(w.starts, i, i+1)
	switch _, before := w.record.LastStart(w.key(s.id)); {
	case s.ended && w.mistake != lateStart:
	case !s.ended && s.daemon.session != s && before && w.mistake != unanswered:
		// Nobody answers its edge, which waits.
	default:
		w.begin(s)
	}
}

// begin is Store.Begin with Start; the store's compare-and-set makes it atomic.
func (w *world) begin(s *simSession) {
	d := s.daemon
	s.epoch = w.epoch()
	req := StartRequest{
		Daemon: s.id, Edge: s.edge, Subscriptions: subscriptionsTo(s.kinds), Epoch: s.epoch, Now: w.tick(),
		Alive:     func(edge string) bool { return w.view[edge] || edge == s.edge },
		HasResume: d.session == s && d.resumes && d.epoch == s.epoch && d.position <= w.last, Resume: d.position,
	}
	if s.ended { // the mistake
		req.Subscriptions, req.HasResume = nil, false
	}
	next, decision := w.start(req)
	if !s.ended && s.id == d.id && (d.session == s || d.beganAs != s.id) {
		w.want(d, s)
	}
	s.start, s.names, s.at, s.running = decision.Entry, decision.Entry.AnswersFor, decision.Entry.Floor, true
	s.out, s.first, s.acked, s.passed, s.cached = nil, 0, nil, nil, next
	if w.mistake != unwritten || len(w.record.Daemons) > 0 || s.kinds != "abc" {
		w.write(s.edge, next)
	}
	if w.chance(.03) { // the connection ended while its start was being written
		w.abandon(s)
	}
}

// want is what a daemon is owed once a connection of it has begun.
func (w *world) want(d *simDaemon, s *simSession) {
	for _, e := range w.log {
		if e.to == s.id && !e.lost && (d.beganAs != s.id || e.away == d) {
			e.owed[d], e.away = true, nil
		}
		if !matches(s.kinds, e.kind) {
			delete(e.owed, d)
		}
	}
	d.begun, d.beganAs = s.kinds, s.id
}

// unsubscribe has a daemon want less than it did. One that resumes behind what it
// did not want has declined that for whomever it speaks for.
func (w *world) unsubscribe(d *simDaemon) {
	s := d.session
	if s == nil || !s.running || len(s.kinds) < 2 || d.resumes {
		return
	}
	s.kinds, s.narrowed = s.kinds[:1+w.r.IntN(len(s.kinds)-1)], true
	w.want(d, s)
	w.decline(s, func(e *simEvent) bool { return !matches(s.kinds, e.kind) })
	if w.chance(.5) { // and what it wanted before, after a moment: it is owed no more for that
		w.publish()
		w.read(s)
		s.kinds = d.kinds
	}
}

func (w *world) abandon(s *simSession) {
	if s.ended {
		return
	}
	w.end(s)
	if w.mistake != wordless {
		w.hand(s, Progress{Epoch: s.epoch, Entry: Entry{Generation: s.start.Generation}, Abandoned: true})
	}
}

// tick passes time for what is written; several writes may share a moment.
func (w *world) tick() time.Time {
	w.now = w.now.Add(time.Duration(w.r.IntN(2)) * time.Millisecond)
	return w.now
}

// write stores a record, and tells whom it concerns: the connections of the edge
// that wrote it, and as far as the hint arrives, those of other edges.
func (w *world) write(edge string, rec Record) {
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
	told := append(w.record.Disturbed(rec), edge)
	rec.Revision = w.record.Revision + 1
	w.record = rec
	for _, s := range slices.Clone(w.sessions) {
		if slices.Contains(told, s.edge) && (s.edge == edge || w.chance(w.hints)) {
			w.reload(s)
		}
	}
}

// end takes a session out; whoever has a job for it finds it ended.
func (w *world) end(s *simSession) {
	s.ended = true
	w.sessions = slices.DeleteFunc(w.sessions, func(x *simSession) bool { return x == s })
	if s.daemon.session == s {
		s.daemon.session = nil
	}
}

func (w *world) crash(i int) {
	for _, s := range slices.Clone(w.sessions) {
		if s.edge == w.edges[i] {
			w.end(s)
		}
	}
	// What it had still to write is lost, or arrives yet.
	w.pending = slices.DeleteFunc(w.pending, func(l late) bool { return l.edge == w.edges[i] && w.chance(.7) })
	w.startEdge(i)
}

func (w *world) step() {
	k, d := w.r.Float64(), w.daemons[w.r.IntN(len(w.daemons))]
	var s *simSession
	if len(w.sessions) > 0 {
		s = w.sessions[w.r.IntN(len(w.sessions))]
	}
	switch {
	case w.restless && w.chance(.2):
		w.comeAndGo(d)
	case w.restless && !w.rollbacks && w.chance(.005):
		w.loseBucket()
	case w.restless && w.chance(.04):
		w.unsubscribe(d)
	case k < .22:
		w.publish()
	case k < .23 && w.rollbacks:
		w.rollback()
	case k < .33:
		if d.session == nil {
			w.login(d)
		}
	case k < .41:
		if d.session != nil {
			w.subscribe(d.session)
		}
	case k < .42:
		if len(w.starts) > 0 {
			w.startNext(w.r.IntN(len(w.starts)))
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
		if (s.daemon.session != s || s.dead) && (!w.restless || w.chance(.3)) {
			w.leave(s)
		}
	case k < .92: // graceful close
		w.leave(s)
	case k < .92+w.crashes:
		w.crash(w.r.IntN(len(w.edges)))
	default:
		w.gossip()
	}
}

// comeAndGo has a daemon begin, leave, or vanish.
func (w *world) comeAndGo(d *simDaemon) {
	switch {
	case d.session == nil:
		w.login(d)
		w.subscribe(d.session)
	case w.chance(.5):
		w.leave(d.session)
	default:
		d.session = nil
	}
}

// gossip lets the directory see some of what has changed, which takes a while,
// and sometimes lose sight of an edge that lives.
func (w *world) gossip() {
	for _, e := range w.edges {
		if w.chance(.7) {
			w.view[e] = w.chance(.95)
		}
	}
	for _, e := range slices.Sorted(maps.Keys(w.view)) {
		if !slices.Contains(w.edges, e) && w.chance(.7) {
			delete(w.view, e)
		}
	}
}
