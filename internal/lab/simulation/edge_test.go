package simulation

import (
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

type cursorKey struct {
	token  event.Token
	daemon protocol.DaemonID
}

type saved struct {
	epoch eventlog.Epoch
	entry cursor.Entry
	acked []uint64 // sequences acknowledged and thus settled in entry
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
	c := &conn{session: protocol.SessionID(fmt.Sprintf("s%06d", w.names)), daemon: d, id: d.id, edge: e, epoch: e.epoch}
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
			c.later(func() { w.deadLetter(c, e) })
		case session.Send:
			w.checkSend(c, e)
			c.queue = append(c.queue, e)
		case session.Save:
			w.save(c, false)
		case session.RefreshEpoch:
			c.later(func() { w.learnEpoch(c.edge) })
		}
	}
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
	at := w.records[c.daemon.token]
	if at.record.Epoch.Newer(c.edge.epoch) {
		w.learnEpoch(c.edge)
	}
	record, d := w.decide(at.record, cursor.StartRequest{
		Daemon: c.id, Subscriptions: c.s.Subscriptions(), Epoch: c.edge.epoch, Now: w.now,
		Connected: func(id protocol.DaemonID) bool { return w.connectedView[id] },
	})
	c.daemon.started, c.began = true, w.stats.steps
	w.forgetFlushed(d.TookOver)
	w.inherit(c.id, c.edge.epoch, d.Entry)
	w.write(c.daemon.token, record)
	c.epoch, c.highest, c.ackedBy = c.edge.epoch, 0, nil
	c.s.Started(e.Run, c.edge.epoch, d.Entry, d.Resumed, w.now)
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

func (w *world) save(c *conn, left bool) {
	if !c.s.Running() {
		return
	}
	entry := c.s.Entry(w.now)
	entry.Left = left
	var acked []uint64
	for _, q := range c.ackedBy {
		if entry.Settles(q) {
			acked = append(acked, q)
		}
	}
	w.distortEntry(c, &entry)
	key := cursorKey{c.daemon.token, c.id}
	if have, ok := c.edge.dirty[key]; ok && have.epoch == c.s.Epoch() && w.mistake != newestEntryWins {
		entry = cursor.Merge(have.entry, entry)
		acked = append(acked, have.acked...)
	}
	c.edge.dirty[key] = saved{c.s.Epoch(), entry, acked}
}

// flush writes one of the entries that an edge remembers.
func (w *world) flush(e *edge, key cursorKey) {
	own, ok := e.dirty[key]
	if !ok {
		return
	}
	delete(e.dirty, key)
	record := w.records[key.token].record
	if record.Epoch.Newer(own.epoch) {
		return
	}
	next := cursor.Record{Epoch: own.epoch, Daemons: map[protocol.DaemonID]cursor.Entry{}}
	for id, entry := range record.Daemons {
		if record.Epoch != own.epoch {
			entry = cursor.Entry{Subscriptions: entry.Subscriptions, AnswersFor: entry.AnswersFor, Left: entry.Left, Written: entry.Written}
		}
		next.Daemons[id] = entry
	}
	if have, ok := next.Daemons[key.daemon]; ok && w.mistake != newestEntryWins {
		own.entry = cursor.Merge(have, own.entry)
	}
	next.Daemons[key.daemon] = own.entry
	w.write(key.token, next)
	for _, q := range own.acked {
		w.flushedAcks[flushedAck{key.daemon, own.epoch, q}] = w.stats.steps
	}
}

func (w *world) write(token event.Token, record cursor.Record) {
	w.records[token] = versioned{w.records[token].revision + 1, record}
	w.checkRecord(token, record)
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
	}
	c.queue = slices.Clone(c.queue[n:])
	w.carryOut(c)
}

func (w *world) tick(c *conn) {
	if wake := c.s.Wake(); !wake.IsZero() && !w.now.Before(wake) {
		c.s.Tick(w.now)
		w.carryOut(c)
	}
}

// end removes a connection; an orderly end flushes its cursor.
func (w *world) end(c *conn, orderly bool) {
	if orderly {
		w.save(c, true)
		w.flush(c.edge, cursorKey{c.daemon.token, c.id})
	}
	c.edge.conns = slices.DeleteFunc(c.edge.conns, func(x *conn) bool { return x == c })
	if c.daemon.conn == c {
		c.daemon.conn = nil
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
		return slices.Compare([]string{string(a.token), string(a.daemon)}, []string{string(b.token), string(b.daemon)})
	})
}
