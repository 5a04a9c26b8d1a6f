package edge

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/conversation"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/edge/socket"
	"github.com/neolith/daemon-gateway/internal/edge/wheel"
	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/internal/neolith/history"
	"github.com/neolith/daemon-gateway/internal/rescue"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// The parts of what is done for one daemon where a panic ends that alone.
const (
	partSocket     rescue.Part = "socket"     // upgrade, reading, writing
	partConnection rescue.Part = "connection" // what is answered and sent
	partAdmission  rescue.Part = "admission"
	partAck        rescue.Part = "ack" // by HTTP
)

var parts = []rescue.Part{access.PartRequest, partSocket, partConnection, partAdmission, partAck}

// services is what all connections of an edge share.
type services struct {
	cfg       *Config
	talk      *conversation.Config
	hub       *hub
	wheel     *wheel.Wheel
	log       *logSide
	admission *admission
	metrics   *metrics
	refusals  *refusals
	panics    *rescue.Notes
	logger    *slog.Logger
	draining  func() bool
	seat      func(*connection) bool
	leave     func(*connection)

	heartbeats *heartbeat.Sender
	history    *history.Recorder // nil where there is no database
	trace      *trace.Recorder
}

// connection joins a socket to the two state machines that decide about it:
// the conversation (what is answered) and the session (what is delivered). It
// decides nothing itself: each input goes to a machine under the lock, and what
// comes out is carried out before the lock is released, so that it leaves in
// the order in which it was decided. Nothing that is done under the lock blocks.
type connection struct {
	// Set once.
	svc    *services
	id     protocol.SessionID
	socket *socket.Socket
	addr   netip.Addr // of the daemon

	accepted *access.Conn // nil where it was not accepted by the edge's listener
	seated   bool         // guarded by the door's mu

	// Set on admission, before the connection is in the hub.
	orchestrator protocol.OrchestratorID
	user         protocol.OrchestratorID // its other id; may be empty; guarded by mu once it is in the hub
	token        event.Token             // of the orchestrator
	daemon       protocol.DaemonID
	named        bool // the token names the daemon
	partition    event.Partition
	organization string // empty if nobody says
	resume       string // position to continue after, if asked for

	alarm *wheel.Alarm // belongs to the wheel, which keeps it for minutes after the end

	mu         sync.Mutex
	talk       conversation.Conversation
	session    *session.Session // nil before admission and after the end
	broken     bool             // one of the two has panicked: neither is asked any more
	state      connectionState
	admittedAt time.Time
	toldAt     time.Time      // when the daemon was told to go for the sake of balance
	attachFrom time.Time      // when the first Begin was asked for
	wakeAt     time.Time      // what the alarm is set to; it may ring earlier
	cursor     *cursor.Writer // with the session
	reported   time.Time      // when the cursor was told last
	lives      pingAnswer     // the last, see logSide.challenge
	record     *record

	// For the reader's goroutine, which carries them out without the lock.
	admit   *conversation.Admit
	confirm *conversation.Confirm
	pause   time.Duration
}

func newConnection(svc *services, id protocol.SessionID, s *socket.Socket, accepted *access.Conn, addr netip.Addr, now time.Time) *connection {
	c := &connection{
		svc: svc, id: id, socket: s, accepted: accepted, addr: addr, talk: conversation.New(svc.talk, id, now), state: stateConnected,
	}
	c.alarm = wheel.NewAlarm(c.tick)
	c.record = newRecord(svc.history, id, addr, now)
	svc.metrics.moved("", stateConnected)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakeLocked()
	return c
}

// Ended is called by the socket when all else is over.
func (c *connection) Ended(ending socket.Ending) {
	defer c.svc.leave(c)
	c.svc.wheel.Cancel(c.alarm)
	c.svc.metrics.closed(ending.Code)
	c.detach(ending)
	c.svc.logger.Debug("connection ended", "session", c.id, "orchestrator", c.token, "daemon", c.daemon,
		"code", ending.Code, "reason", ending.Reason, "byPeer", ending.ByPeer)
}

// detach takes the connection out of everything and writes its cursor.
func (c *connection) detach(ending socket.Ending) {
	c.mu.Lock()
	began := c.cursor != nil
	if began {
		c.svc.refusals.audit.Write(audit.SessionEnded, protocol.CloseCode(ending.Code).String(), "orchestrator", c.orchestrator,
			"daemon", c.daemon, "session", c.id, "address", c.addr, "code", ending.Code, "close_reason", ending.Reason,
			"by_peer", ending.ByPeer, "lasted", time.Since(c.admittedAt).Round(time.Millisecond))
	}
	c.record.ended(ending, time.Now())
	if began {
		c.cursor.End(c.lastWordLocked(ending))
	}
	c.session = nil
	c.talk.End(protocol.CloseNormal, "")
	c.svc.metrics.moved(c.state, "")
	broken := c.broken
	c.mu.Unlock()
	if began || broken { // which may have happened on the way in
		c.svc.admission.release(c)
		c.svc.log.detached(c)
		c.svc.hub.remove(c)
	}
}

// lastWordLocked is what the cursor is told at the end. c.mu is held.
func (c *connection) lastWordLocked(ending socket.Ending) (last cursor.Progress, running bool) {
	defer c.rescuedLocked()
	if c.session != nil {
		broke := c.talk.Broke(protocol.CloseCode(ending.Code), ending.ByPeer)
		if broke {
			c.session.Broke()
		}
		c.traceEndLocked(ending, broke)
	}
	return c.progressLocked()
}

// rescuedLocked keeps a panic in one of the two machines, or in what carries out
// their effects, from ending the edge. The connection ends alone, as it would in a
// crash of the edge: what the machines have decided and not reported is forgotten,
// because what one that has stopped half way says of the log may be wrong
// (invariant 3). It is deferred after the lock's release; c.mu is held.
func (c *connection) rescuedLocked() {
	value := recover()
	if value == nil {
		return
	}
	c.broken, c.session = true, nil
	c.svc.panics.Panicked(partConnection, value, c.bearerLocked()...)
	c.socket.Cut()
}

// rescued is rescuedLocked for what is done for the connection without the lock, and
// does not touch the machines: they go on to the end.
func (c *connection) rescued() {
	if value := recover(); value != nil {
		c.svc.panics.Panicked(partConnection, value, whoIs(c)...)
		c.socket.Cut()
	}
}

// step hands something to the machines and carries out what comes of it.
func (c *connection) step(f func(now time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.rescuedLocked()
	if c.broken {
		return
	}
	now := time.Now()
	f(now)
	c.carryOutLocked(now)
}

// Message is called by the socket's reader for each frame.
func (c *connection) Message(data []byte) {
	c.step(func(now time.Time) { c.talk.Message(data, now) })
	admit, confirm, pause := c.takeAsked()
	if admit != nil {
		c.svc.admission.admit(c, admit)
	}
	if confirm != nil {
		c.svc.admission.confirm(c, confirm)
	}
	if pause > 0 {
		c.wait(pause)
	}
}

// takeAsked returns what the machines ask of the reader.
func (c *connection) takeAsked() (admit *conversation.Admit, confirm *conversation.Confirm, pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	admit, confirm, pause = c.admit, c.confirm, c.pause
	c.admit, c.confirm, c.pause = nil, nil, 0
	return admit, confirm, pause
}

// wait keeps the reader from reading on.
func (c *connection) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.socket.Ended():
	}
}

// Refused is called by the socket for a frame that it closes for.
func (c *connection) Refused(_ int, problem string) {
	c.converse(func(talk *conversation.Conversation, _ time.Time) { talk.Refuse(problem) })
}

// Written is called by the socket's writer.
func (c *connection) Written(frames []socket.Frame) {
	c.step(func(now time.Time) {
		for i := range frames {
			c.countWrittenLocked(&frames[i], now)
			if c.session != nil {
				c.session.Written(frames[i].Run, frames[i].Sequence, now)
			}
		}
	})
}

func (c *connection) countWrittenLocked(f *socket.Frame, now time.Time) {
	c.record.sent(f.Redelivered)
	if f.Redelivered {
		c.svc.metrics.event(outcomeRedelivered, "redelivered", 1)
		return
	}
	c.svc.metrics.event(outcomeSent, "routed", 1)
	// What waited while the daemon was away says nothing about the gateway.
	if f.Stored.After(c.admittedAt) {
		latency := max(0, now.Sub(f.Stored).Seconds())
		metric.Observe(c.svc.metrics.deliverySeconds, latency, f.Trace.ID())
		metric.Observe(c.svc.metrics.wsLatency, latency, f.Trace.ID())
	}
}

// tick is called by the wheel.
func (c *connection) tick(time.Time) {
	c.step(func(now time.Time) {
		c.wakeAt = time.Time{}
		c.talk.Tick(now)
		if c.session != nil {
			c.session.Tick(now)
		}
	})
}

// converse hands something to the conversation.
func (c *connection) converse(f func(talk *conversation.Conversation, now time.Time)) {
	c.step(func(now time.Time) { f(&c.talk, now) })
}

// input hands something to the session, if there is one.
func (c *connection) input(f func(s *session.Session, now time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.rescuedLocked()
	if c.session == nil {
		return
	}
	now := time.Now()
	f(c.session, now)
	c.carryOutLocked(now)
}
