package simulation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// edge is one edge: its connections, the cursor entries it has still to write,
// the work its sessions have asked for, and the epoch as it knows it.
type edge struct {
	name  string
	epoch eventlog.Epoch
	conns []*conn
	dirty map[cursorKey]saved
}

// cursorKey names the connection that writes an entry.
type cursorKey struct {
	token      event.Token
	daemon     protocol.DaemonID
	generation uint64
}

type saved struct {
	progress cursor.Progress
	acked    []uint64 // sequences acknowledged, in the progress's epoch
}

// conn is one connection: the session and the socket.
type conn struct {
	session   protocol.SessionID
	daemon    *daemon
	id        protocol.DaemonID
	edge      *edge
	s         *session.Session
	work      []func() // answers to effects, given at any later time in any order
	queue     []session.Send
	wire      []session.Send
	highest   uint64            // of first sends, in the session's epoch
	heard     eventlog.Position // the highest that the daemon was first sent
	epoch     eventlog.Epoch
	ackedBy   []uint64 // acknowledged on this connection, in epoch
	began     int      // the step in which the session was started
	latestRun uint32   // of the newest question, for the mistake that ignores it
	told      told     // by routers
	sends     []session.Send
	announced bool            // the daemon was told that it has subscribed
	came      map[string]bool // the ids of what the daemon has heard

	generation uint64 // of its start
	names      []protocol.DaemonID
}

func (w *world) startEdge() {
	w.names++
	w.edges = append(w.edges, &edge{name: fmt.Sprintf("edge-%d", w.names), epoch: w.log.announced, dirty: map[cursorKey]saved{}})
}

func (w *world) edge(name string) *edge {
	i := slices.IndexFunc(w.edges, func(e *edge) bool { return e.name == name })
	if i < 0 {
		return nil
	}
	return w.edges[i]
}

func (w *world) connect(e *edge, d *daemon) {
	w.names++
	c := &conn{session: protocol.SessionID(fmt.Sprintf("s%06d", w.names)), daemon: d, id: d.id, edge: e, epoch: e.epoch, came: map[string]bool{}}
	c.s = session.New(session.Config{
		Orchestrator: w.orchestrator(d), Daemon: d.id, WindowEvents: w.window(), WindowBytes: 1 << 20,
		AckTimeout: ackTimeout, MaxVainTries: maxDeliveries, MaxEventBytes: event.DefaultMaxBytes, EventsPerOrchestrator: keep,
	})
	e.conns = append(e.conns, c)
	d.conn = c
}

// carryOut takes a session's effects. Answers are queued, to be given at some
// later time; a share of the questions fails.
func (w *world) carryOut(c *conn) {
	for _, effect := range c.s.Take() {
		switch e := effect.(type) {
		case session.Begin:
			c.latestRun = e.Run
			c.later(func() { w.begin(c, e) })
		case session.AskLast:
			c.latestRun = e.Run
			c.later(func() { w.answerLast(c, e) })
		case session.Read:
			w.stats.catchUps++
			c.later(func() { w.answerRead(c, e) })
		case session.DeadLetter:
			w.checkGivenUp(c, e)
			c.later(func() { w.deadLetter(c, e) })
		case session.Send:
			w.checkSend(c, e)
			c.queue = append(c.queue, e)
		case session.Subscribed:
			w.checkSubscribed(c)
			c.announced = true
			c.daemon.begun(c)
		case session.Save:
			w.save(c, c.edge.name)
		case session.RefreshEpoch:
			c.later(func() { w.learnEpoch(c.edge) })
		}
	}
	w.checkTold(c)
	if n := c.s.Unsettled(); n > windowEvents {
		w.fail("invariant 4: %s of %s holds %d unsettled events, at most %d allowed", c.session, c.id, n, windowEvents)
	}
}

func (c *conn) later(answer func()) { c.work = append(c.work, answer) }

// work lets one of the answers that a connection waits for arrive.
func (w *world) work(c *conn) {
	if len(c.work) == 0 {
		return
	}
	i := w.r.IntN(len(c.work))
	answer := c.work[i]
	c.work = slices.Delete(c.work, i, i+1)
	answer()
	w.carryOut(c)
}

// begin reads the record, decides and writes, in one step: the store repeats
// until nobody else has written between.
func (w *world) begin(c *conn, e session.Begin) {
	if w.chance(.1) {
		c.s.StartFailed(e.Run, w.now)
		return
	}
	at := w.record(c.daemon.token)
	if at.Epoch.Newer(c.edge.epoch) {
		w.learnEpoch(c.edge)
	}
	if !c.s.Starting(e.Run) || !slices.Contains(c.edge.conns, c) {
		return // decides nothing any more
	}
	req := cursor.StartRequest{
		Daemon: c.id, Edge: c.edge.name, Subscriptions: c.s.Subscriptions(), Since: c.s.Since(), Epoch: c.edge.epoch, Now: w.now,
		Alive: func(edge string) bool { return w.edgesView[edge] || edge == c.edge.name },
	}
	if e.Patient && cursor.Incomplete(at, req) {
		c.s.StartFailed(e.Run, w.now)
		return
	}
	record, d := w.decide(at, req)
	c.generation, c.names = d.Entry.Generation, d.Entry.AnswersFor
	c.daemon.begun(c)
	c.began = w.stats.steps
	w.forgetFlushed(d.TookOver)
	w.inherit(c.id, c.edge.epoch, d.Entry)
	c.epoch, c.highest, c.ackedBy = c.edge.epoch, 0, nil
	c.s.Started(e.Run, c.edge.epoch, d.Entry, d.Resumed, w.now)
	w.write(c.edge, c.daemon.token, record)
}

func (w *world) answerLast(c *conn, e session.AskLast) {
	if w.chance(.05) {
		c.s.AskFailed(w.run(c, e.Run), w.now)
		return
	}
	upTo := w.replica()
	last := eventlog.Last{UpTo: upTo}
	if stored := w.log.of(w.orchestrator(c.daemon), 1, upTo); len(stored) > 0 {
		last.Sequence = stored[len(stored)-1].Sequence
	}
	if w.mistake == upToFromLeader {
		last.UpTo = w.log.last
	}
	c.s.LastKnown(w.run(c, e.Run), last, w.now)
}

func (w *world) answerRead(c *conn, e session.Read) {
	if w.chance(.05) {
		c.s.ReadFailed(w.run(c, e.Run), w.now)
		return
	}
	all := w.log.of(w.orchestrator(c.daemon), e.From, w.replica())
	n := min(len(all), e.MaxEvents)
	c.s.ReadDone(w.run(c, e.Run), eventlog.Page{Messages: all[:n], Remaining: uint64(len(all) - n)}, w.now)
}

func (w *world) deadLetter(c *conn, e session.DeadLetter) {
	stored := w.chance(.7)
	if stored {
		w.stats.deadLetters++
		w.deadLettered[e.Event.ID] = true
		w.settled[settledFor{c.id, c.s.Epoch(), e.Sequence}] = true
	}
	c.s.DeadLettered(w.run(c, e.Run), e.Sequence, stored || w.mistake == deadLetterUnstored, w.now)
}

// learnEpoch is the edge's watch of the epoch, which may be late.
func (w *world) learnEpoch(e *edge) {
	if w.mistake == epochIgnored || e.epoch == w.log.announced {
		return
	}
	e.epoch = w.log.announced
	for _, c := range slices.Clone(e.conns) {
		if c.s.Running() {
			c.epoch, c.highest, c.ackedBy = e.epoch, 0, nil
		}
		c.s.EpochChanged(e.epoch, w.now)
		w.carryOut(c)
	}
}

// save remembers what the session reports; an empty edge makes it the last word.
func (w *world) save(c *conn, edge string) {
	if !c.s.Running() {
		return
	}
	progress := c.s.Progress(w.now)
	progress.Entry.Edge = edge
	var acked []uint64
	for _, q := range c.ackedBy {
		if progress.Entry.Settles(q) {
			acked = append(acked, q)
		}
	}
	w.distortEntry(c, &progress.Entry)
	key := cursorKey{c.daemon.token, c.id, c.generation}
	if have, ok := c.edge.dirty[key]; ok {
		progress = have.progress.Then(progress)
		if have.progress.Epoch == progress.Epoch {
			acked = append(acked, have.acked...)
		}
	}
	c.edge.dirty[key] = saved{progress, acked}
}

// flush writes one of the reports that an edge remembers.
func (w *world) flush(e *edge, key cursorKey) {
	own, ok := e.dirty[key]
	if !ok {
		return
	}
	delete(e.dirty, key)
	record := w.record(key.token)
	next := record.Apply(key.daemon, own.progress)
	if entry, ok := next.Daemons[key.daemon]; ok && w.mistake == newestEntryWins {
		next.Daemons = maps.Clone(next.Daemons)
		own.progress.Entry.Generation = entry.Generation
		next.Daemons[key.daemon] = own.progress.Entry
	}
	if w.chance(.3) { // the answer will be lost, and it is written again
		e.dirty[key] = own
	}
	w.write(e, key.token, next)
	if entry, ok := next.Daemons[key.daemon]; !ok || next.Epoch != own.progress.Epoch || entry.Generation != key.generation {
		return // taken over, or superseded: then it is known of what is new alone
	}
	w.recorded(e, key, own.progress)
	for _, q := range own.acked {
		w.flushedAcks[flushedAck{key.daemon, own.progress.Epoch, q}] = w.stats.steps
	}
}

// recorded tells a connection that what it has reported is stored.
func (w *world) recorded(e *edge, key cursorKey, p cursor.Progress) {
	for _, c := range slices.Clone(e.conns) {
		own := c.daemon.token == key.token && c.id == key.daemon && c.generation == key.generation
		if own && p.Awaited && cursor.Covers(p.Entry.Subscriptions, c.s.Subscriptions()) {
			c.s.Recorded()
			w.carryOut(c)
		}
	}
}

// record is the stored one, as an edge reads it.
func (w *world) record(token event.Token) cursor.Record {
	at := w.records[token]
	at.record.Revision = at.revision
	return at.record
}

// write stores a record. The connections of the edge that wrote it learn of it,
// and most of those elsewhere that it concerns.
func (w *world) write(e *edge, token event.Token, record cursor.Record) {
	before := w.record(token)
	told := append(before.Disturbed(record), e.name)
	w.records[token] = versioned{w.records[token].revision + 1, record}
	w.checkRecord(token, record)
	for _, name := range told {
		if to := w.edge(name); to != nil && (to == e || w.chance(w.hints)) {
			w.reload(to, token)
		}
	}
}

// reload tells the connections of an edge what the record says of them.
func (w *world) reload(e *edge, token event.Token) {
	for _, c := range slices.Clone(e.conns) {
		if c.daemon.token != token || !c.s.Running() {
			continue
		}
		entry, known := w.records[token].record.Daemons[c.id]
		switch {
		case w.records[token].record.Superseded(c.id, c.generation):
			w.end(c, true)
		case !known:
			w.save(c, e.name) // taken over while it lives: put back with the next write
		case !slices.Equal(entry.AnswersFor, c.names):
			c.names = entry.AnswersFor
			c.s.AnswersFor(entry.AnswersFor, w.now)
			w.carryOut(c)
		}
	}
}

// put writes the socket: the frames reach the daemon later, or never.
func (w *world) put(c *conn) {
	if w.mistake == unorderedSocket {
		w.r.Shuffle(len(c.queue), func(i, j int) { c.queue[i], c.queue[j] = c.queue[j], c.queue[i] })
	}
	n := w.r.IntN(len(c.queue) + 1)
	for _, s := range c.queue[:n] {
		c.wire = append(c.wire, s)
		c.s.Written(s.Run, s.Position.Sequence, w.now)
		if w.mistake == unansweredInVain {
			c.s.Answered(s.Run, s.Position.Sequence, w.now)
		}
	}
	c.queue = slices.Clone(c.queue[n:])
	w.carryOut(c)
	if c.daemon.conn == c && slices.ContainsFunc(c.wire, func(s session.Send) bool { return s.Ping }) && w.chance(.7) {
		w.hear(c.daemon) // what is in doubt would seldom be tried to the end
	}
}

func (w *world) tick(c *conn) {
	if wake := c.s.Wake(); !wake.IsZero() && !w.now.Before(wake) {
		c.s.Tick(w.now)
		w.carryOut(c)
	}
}

// breakOff ends a connection on which the daemon was lost: its edge lives on.
func (w *world) breakOff(c *conn) {
	w.countInHand(c)
	c.s.Broke()
	w.end(c, true)
}

// end removes a connection; a graceful end flushes its cursor.
func (w *world) end(c *conn, graceful bool) {
	if graceful && w.mistake == gracefulInVain {
		c.s.Broke()
	}
	c.edge.conns = slices.DeleteFunc(c.edge.conns, func(x *conn) bool { return x == c })
	if c.daemon.conn == c {
		c.daemon.conn = nil
	}
	if graceful {
		w.save(c, "")
		w.flush(c.edge, cursorKey{c.daemon.token, c.id, c.generation})
	}
}

func (w *world) crashEdge(e *edge) {
	w.stats.crashes++
	for _, c := range slices.Clone(e.conns) {
		w.end(c, false)
	}
	w.edges = slices.DeleteFunc(w.edges, func(x *edge) bool { return x == e })
	w.startEdge()
}

func (w *world) sortedDirty(e *edge) []cursorKey {
	return slices.SortedFunc(maps.Keys(e.dirty), func(a, b cursorKey) int {
		return cmp.Or(cmp.Compare(a.token, b.token), cmp.Compare(a.daemon, b.daemon), cmp.Compare(a.generation, b.generation))
	})
}
