package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// checkSend guards invariants 2 and 5 and that what is acknowledged and
// flushed is not sent again.
func (w *world) checkSend(c *conn, e session.Send) {
	q := e.Position.Sequence
	if event.TokenOf(e.Event.OrchestratorID) != c.daemon.token {
		w.fail("invariant 5: %s of %s is sent %s of %s", c.session, c.daemon.token, e.Event.ID, e.Event.OrchestratorID)
	}
	if !c.daemon.wants(e.Event.Type) {
		w.fail("%s is sent %s, which it has not subscribed to", c.session, e.Event.ID)
	}
	repeat := slices.ContainsFunc(c.queue, func(s session.Send) bool { return s.Position == e.Position }) || q <= c.highest
	if repeat && !e.Redelivered {
		w.fail("invariant 2: %s (%s) is first sent sequence %d after %d", c.session, c.id, q, c.highest)
	}
	if repeat && slices.ContainsFunc(c.sends, func(s session.Send) bool { return s.Position == e.Position }) {
		w.countTry(c, e.Event.ID) // the ack timeout has passed
	}
	c.sends = append(c.sends, e)
	c.highest = max(c.highest, q)
	if flushed, ok := w.flushedAcks[flushedAck{c.id, e.Position.Epoch, q}]; ok && flushed < c.began {
		w.fail("%s (%s) is sent %s at %d, acknowledged and flushed before", c.session, c.id, e.Event.ID, q)
	}
}

// checkHeard guards invariant 2 at the daemon: first sends come in log order.
func (w *world) checkHeard(c *conn, s session.Send) {
	if s.Redelivered {
		w.stats.repeats++
		return
	}
	if c.heard.Epoch == s.Position.Epoch && s.Position.Sequence <= c.heard.Sequence {
		w.fail("invariant 2: %s hears sequence %d after %d", c.id, s.Position.Sequence, c.heard.Sequence)
	}
	c.heard = s.Position
}

// checkSubscribed guards that a daemon is told that it has subscribed only once the
// record says all that it wants: whoever takes it over must know.
func (w *world) checkSubscribed(c *conn) {
	entry, known := w.records[c.daemon.token].record.Daemons[c.id]
	if known && entry.Generation == c.generation && !cursor.Covers(entry.Subscriptions, c.s.Subscriptions()) {
		w.fail("invariant 1: %s (%s) is told that it has subscribed to %v, the record says %v", c.session, c.id, c.s.Subscriptions(), entry.Subscriptions)
	}
}

// countInHand counts the try of what a daemon had in hand when it was lost.
func (w *world) countInHand(c *conn) {
	for _, s := range c.sends {
		w.countTry(c, s.Event.ID)
	}
}

// countTry counts a try in vain. Of what has never come only so many count as make
// the event go alone.
func (w *world) countTry(c *conn, id string) {
	if c.came[id] || w.vain[id] < maxDeliveries-1 {
		w.vain[id]++
	}
}

// checkGivenUp guards that only what was tried in vain often enough becomes a
// dead letter: the last time maybe just now, by an ack timeout.
func (w *world) checkGivenUp(c *conn, e session.DeadLetter) {
	if slices.ContainsFunc(c.sends, func(s session.Send) bool { return s.Event.ID == e.Event.ID }) {
		w.countTry(c, e.Event.ID)
	}
	if tries := w.vain[e.Event.ID]; tries < maxDeliveries {
		w.fail("%s (%s) has given %s up too early: tried in vain %d times", c.session, c.id, e.Event.ID, tries)
	}
}

// told is the highest sequence of the newest epoch that routers have spoken of
// to a connection.
type told struct {
	epoch    eventlog.Epoch
	sequence uint64
}

// tell remembers what routers say to a connection, and reports whether it hears it.
func (w *world) tell(c *conn, epoch eventlog.Epoch, sequence uint64) bool {
	switch {
	case epoch.Newer(c.told.epoch):
		c.told = told{epoch, sequence}
	case epoch == c.told.epoch:
		c.told.sequence = max(c.told.sequence, sequence)
	}
	return w.mistake != deafBefore || c.s.Running()
}

// checkTold guards that a connection looks for all that routers have told it of,
// whenever that was, and does not leave it to the net.
func (w *world) checkTold(c *conn) {
	if at := c.s.Position(); c.s.Live() && c.told.epoch == at.Epoch && c.told.sequence > at.Sequence {
		w.fail("%s (%s) was told of sequence %d, has come to %d, and takes that for all there is", c.session, c.id, c.told.sequence, at.Sequence)
	}
}

// forgetFlushed: a daemon that lost its entry to a successor, and comes back
// under the same id after all, starts where the successor did.
func (w *world) forgetFlushed(ids []protocol.DaemonID) {
	for f := range w.flushedAcks {
		if slices.Contains(ids, f.daemon) {
			delete(w.flushedAcks, f)
		}
	}
}

// settledFor names an event that a daemon has settled: acknowledged,
// dead-lettered, or found settled where it started.
type settledFor struct {
	daemon protocol.DaemonID
	epoch  eventlog.Epoch
	seq    uint64
}

// checkRecord guards invariant 3 at every write: below the floor, and in the
// settled ranges, there is nothing that the daemon has still to acknowledge.
func (w *world) checkRecord(token event.Token, record cursor.Record) {
	if record.Epoch != w.log.epoch {
		return
	}
	for _, d := range w.daemons {
		entry, ok := record.Daemons[d.id]
		if !ok || d.token != token {
			continue
		}
		for _, s := range w.log.stored {
			if entry.Settles(s.Sequence) && w.owes(d, s) && !w.settled[settledFor{d.id, record.Epoch, s.Sequence}] {
				w.fail("invariant 3: the cursor of %s passes %s at %d, which it has not settled", d.id, s.event.ID, s.Sequence)
			}
		}
	}
}

// owes reports whether the daemon, under the id it has now, has to acknowledge
// the event.
func (w *world) owes(d *daemon, s stored) bool {
	return s.must && s.Token == d.token && slices.Contains(s.wanting, d) && d.wants(s.event.Type) &&
		(s.event.DaemonID == "" || s.event.DaemonID == d.id) && !w.ackedBy[ackedBy{d.id, s.event.ID}]
}

// inherit records what a daemon finds settled where it starts.
func (w *world) inherit(id protocol.DaemonID, epoch eventlog.Epoch, entry cursor.Entry) {
	for _, s := range w.log.stored {
		if entry.Settles(s.Sequence) {
			w.settled[settledFor{id, epoch, s.Sequence}] = true
		}
	}
}

// settle stops all faults and lets everything run until nothing is missing.
func (w *world) settle() {
	for _, d := range w.daemons {
		d.stubborn = false
	}
	for range 300 {
		w.settleOnce()
		if w.fault != nil || w.missing() == nil {
			return
		}
	}
	s := w.missing()
	story := ""
	for _, e := range w.edges {
		for _, c := range e.conns {
			if c.daemon.token == s.Token {
				story += fmt.Sprintf("\n%s of %s %v on %s: complete %d, floor %d, %d unsettled, %d queued, %d on the wire, %d received, live %v, acked %v",
					c.session, c.id, c.daemon.patterns, e.name, c.s.Position().Sequence, c.s.Floor(), c.s.Unsettled(), len(c.queue), len(c.wire), len(c.daemon.received), c.s.Live(), w.settled[settledFor{c.id, w.log.epoch, s.Sequence}])
			}
		}
	}
	w.fail("invariant 1: %s at sequence %d (type %s, addressed to %q, last %d, acked %v) has not reached all who want it; records of %s: %+v%s",
		s.event.ID, s.Sequence, s.event.Type, s.event.DaemonID, w.log.last, w.acked[s.event.ID], s.Token, w.records[s.Token].record.Daemons, story)
}

// missing returns an event that was acknowledged by nobody, or not settled by
// a daemon that had wanted it and still has the same id.
func (w *world) missing() *stored {
	for i := range w.log.stored {
		s := &w.log.stored[i]
		if !s.must {
			continue
		}
		if !w.acked[s.event.ID] && !w.deadLettered[s.event.ID] {
			return s
		}
		for _, d := range w.daemons {
			if !d.fresh && w.owes(d, *s) && !w.settled[settledFor{d.id, w.log.epoch, s.Sequence}] {
				return s
			}
		}
	}
	return nil
}

func (w *world) settleOnce() {
	w.now = w.now.Add(time.Second)
	if len(w.routers) == 0 {
		w.startRouter()
	}
	w.refreshView()
	for _, e := range w.edges {
		w.learnEpoch(e)
	}
	for _, rt := range w.routers {
		for range 8 {
			w.learn(rt)
			w.feed(rt)
		}
		w.flushLane(rt)
	}
	for range len(w.flights) {
		w.land()
	}
	for _, d := range w.daemons {
		if d.conn == nil {
			w.login(d)
		}
		w.subscribe(d)
	}
	for _, e := range w.edges {
		for _, c := range slices.Clone(e.conns) {
			w.settleConn(c)
		}
	}
}

func (w *world) settleConn(c *conn) {
	if c.daemon.conn != c {
		w.end(c, true)
		return
	}
	c.s.Check(w.now)
	w.carryOut(c)
	for range 6 {
		w.work(c)
		c.s.Tick(w.now)
		w.carryOut(c)
		w.put(c)
		w.hear(c.daemon)
		w.ack(c.daemon)
	}
}
