package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// daemon is a process somewhere that runs an orchestrator.
type daemon struct {
	token    event.Token
	id       protocol.DaemonID
	patterns []protocol.Pattern
	fresh    bool // a new id at every login
	stubborn bool // never acknowledges some of its events
	late     bool // at first it subscribes to a part, and to the rest when it hears of that
	logins   int
	name     int

	conn     *conn
	started  bool           // some connection of it has begun: it is recorded what it wants
	received []session.Send // and not acknowledged
}

func newDaemon(w *world, token event.Token) *daemon {
	d := &daemon{token: token, name: len(w.daemons), fresh: w.chance(.6), stubborn: w.chance(.3)}
	d.patterns = pickOf(w, []protocol.Pattern{"a.*"}, []protocol.Pattern{"b.*"}, []protocol.Pattern{"a.*", "b.x"}, []protocol.Pattern{"*"})
	d.late = len(d.patterns) > 1 && w.chance(.5)
	return d
}

func (d *daemon) wants(t protocol.EventType) bool {
	return slices.ContainsFunc(d.patterns, func(p protocol.Pattern) bool { return p.Matches(t) })
}

// begun notes what a connection of the daemon has subscribed to, and the record says.
// One that is late may have another connection by now, on which it wants less so far.
func (d *daemon) begun(c *conn) {
	if d.conn == c || !d.late {
		d.started = d.started || cursor.Covers(c.s.Subscriptions(), d.subscriptions())
	}
}

// subscriptions are what it subscribes to, one after the other.
func (d *daemon) subscriptions() (all []protocol.Subscription) {
	for _, p := range d.patterns {
		all = append(all, protocol.Subscription{Pattern: p})
	}
	return all
}

func (w *world) login(d *daemon) {
	if d.fresh || d.id == "" {
		d.logins++
		d.id = protocol.DaemonID(fmt.Sprintf("d%d.%d", d.name, d.logins))
	}
	e, _ := pick(w, w.edges)
	for _, other := range w.edges { // newest wins, where the directory shows the older one
		for _, c := range slices.Clone(other.conns) {
			if c.id == d.id && w.connectedView[d.id] {
				w.end(c, w.chance(.8))
			}
		}
	}
	d.received = nil
	w.connect(e, d)
}

// subscribe sends the whole series at once, as daemons do after auth_success. The
// edge may get to do something between two of it.
func (w *world) subscribe(d *daemon) {
	if d.conn == nil {
		return
	}
	if len(d.conn.s.Subscriptions()) > 0 {
		w.subscribeLater(d)
		return
	}
	c, patterns := d.conn, d.patterns
	if d.late && !d.started {
		patterns = patterns[:1]
	}
	for _, p := range patterns {
		for w.chance(.4) && len(c.work) > 0 && d.conn == c {
			w.work(c)
		}
		if d.conn != c {
			return
		}
		c.s.Subscribe([]protocol.Subscription{{Pattern: p}}, w.subscribedAt())
		w.carryOut(c)
	}
}

// subscribeLater has a daemon subscribe to the rest of what it wants.
func (w *world) subscribeLater(d *daemon) {
	c := d.conn
	if c.announced && !cursor.Covers(c.s.Subscriptions(), d.subscriptions()) {
		c.s.Subscribe(d.subscriptions(), w.now)
		c.s.Confirm()
		if w.mistake == unrecorded {
			c.s.Recorded()
		}
		w.carryOut(c)
	}
}

// hasten lets most daemons begin at once, so that they have time to do something.
func (w *world) hasten(d *daemon) {
	if w.chance(.3) {
		return
	}
	w.subscribe(d)
	w.pass(60 * time.Millisecond)
	for range 4 {
		if d.conn != nil {
			w.work(d.conn)
		}
	}
}

// hear takes frames from the wire, in order.
func (w *world) hear(d *daemon) {
	c := d.conn
	if c == nil || len(c.wire) == 0 {
		return
	}
	n := 1 + w.r.IntN(len(c.wire))
	for _, s := range c.wire[:n] {
		w.stats.sent++
		w.checkHeard(c, s)
		c.came[s.Event.ID] = true
		if s.Ping && w.chance(.8) { // else the connection is cut before
			c.s.Answered(s.Run, s.Position.Sequence, w.now)
		}
		if s.Event.RequiresAck {
			d.received = append(d.received, s)
		}
	}
	c.wire = slices.Clone(c.wire[n:])
}

func (w *world) ack(d *daemon) {
	if d.conn == nil || len(d.received) == 0 {
		return
	}
	i := w.r.IntN(len(d.received))
	s := d.received[i]
	if d.stubborn && s.Position.Sequence%5 == 0 {
		return
	}
	d.received = slices.Delete(d.received, i, i+1)
	w.stats.acked++
	w.acked[s.Event.ID] = true
	w.ackedBy[ackedBy{d.id, s.Event.ID}] = true
	// The id is what counts: a frame from before a rollback acknowledges the
	// same event under whatever sequence it has now.
	for _, in := range w.log.stored {
		if in.event.ID == s.Event.ID && d.conn.s.Epoch() == w.log.announced {
			d.conn.ackedBy = append(d.conn.ackedBy, in.Sequence)
			w.settled[settledFor{d.id, w.log.announced, in.Sequence}] = true
		}
	}
	d.conn.s.Ack([]string{s.Event.ID}, w.now)
	w.carryOut(d.conn)
}

// vanish: the process or its network is gone; the edge finds out later.
func (w *world) vanish(d *daemon) { d.conn, d.received = nil, nil }
