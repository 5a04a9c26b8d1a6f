package edge

import (
	"log/slog"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/edge/conversation"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/edge/socket"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/neolith/history"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// services is what all connections of an edge share.
type services struct {
	cfg       *Config
	talk      *conversation.Config
	hub       *hub
	wheel     *wheel
	log       *logSide
	admission *admission
	metrics   *metrics
	logger    *slog.Logger
	draining  func() bool

	heartbeats *heartbeat.Sender
	history    *history.Recorder // nil where there is no database
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
	addr   string // of the daemon, for logs

	// Set on admission, before the connection is in the hub.
	orchestrator protocol.OrchestratorID
	token        event.Token // of the orchestrator
	daemon       protocol.DaemonID
	partition    event.Partition
	organization string // empty if nobody says
	resume       string // position to continue after, if asked for

	alarm *alarm // belongs to the wheel, which keeps it for minutes after the end

	mu         sync.Mutex
	talk       conversation.Conversation
	session    *session.Session // nil before admission and after the end
	state      connectionState
	admittedAt time.Time
	toldAt     time.Time // when the daemon was told to go for the sake of balance
	attachFrom time.Time // when the first Begin was asked for
	wakeAt     time.Time // what the alarm is set to; it may ring earlier
	dirty      bool      // the cursor entry waits to be saved
	saved      time.Time // when the entry was handed over last
	record     *record

	// For the reader's goroutine, which carries them out without the lock.
	admit *conversation.Admit
	pause time.Duration
}

func newConnection(svc *services, id protocol.SessionID, s *socket.Socket, addr string, now time.Time) *connection {
	c := &connection{svc: svc, id: id, socket: s, addr: addr, talk: conversation.New(svc.talk, id, now), state: stateConnected}
	c.alarm = &alarm{ring: c.tick}
	c.record = newRecord(svc.history, id, addr, now)
	svc.metrics.moved("", stateConnected)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakeLocked()
	return c
}

// serve lives as long as the socket.
func (c *connection) serve() {
	ending := c.socket.Serve(c)
	c.svc.wheel.cancel(c.alarm)
	c.svc.metrics.closed(ending.Code)
	c.detach(ending)
	c.svc.logger.Debug("connection ended", "session", c.id, "orchestrator", c.token, "daemon", c.daemon,
		"code", ending.Code, "reason", ending.Reason, "byPeer", ending.ByPeer)
}

// detach takes the connection out of everything and writes its cursor.
func (c *connection) detach(ending socket.Ending) {
	c.mu.Lock()
	admitted := c.session != nil
	c.record.ended(ending, time.Now())
	c.saveLocked(true)
	c.session = nil
	c.talk.End(protocol.CloseNormal, "")
	c.svc.metrics.moved(c.state, "")
	c.mu.Unlock()
	if admitted {
		c.svc.admission.release(c)
		c.svc.log.detached(c, c.svc.hub.remove(c.partition, c.token, c))
	}
}

// Message is called by the socket's reader for each frame.
func (c *connection) Message(data []byte) {
	now := time.Now()
	c.mu.Lock()
	c.talk.Message(data, now)
	c.carryOutLocked(now)
	admit, pause := c.admit, c.pause
	c.admit, c.pause = nil, 0
	c.mu.Unlock()
	if admit != nil {
		c.svc.admission.admit(c, admit)
	}
	if pause > 0 {
		c.wait(pause)
	}
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
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.talk.Refuse(problem)
	c.carryOutLocked(now)
}

// Written is called by the socket's writer.
func (c *connection) Written(frames []socket.Frame) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range frames {
		c.countWrittenLocked(&frames[i], now)
		if c.session != nil {
			c.session.Written(frames[i].Run, frames[i].Sequence, now)
		}
	}
	c.carryOutLocked(now)
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
		c.svc.metrics.deliverySeconds.Observe(latency)
		c.svc.metrics.wsLatency.Observe(latency)
	}
}

// tick is called by the wheel.
func (c *connection) tick(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakeAt = time.Time{}
	c.talk.Tick(now)
	if c.session != nil {
		c.session.Tick(now)
	}
	c.carryOutLocked(now)
}

// input hands something to the session, if there is one.
func (c *connection) input(now time.Time, f func(s *session.Session)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		f(c.session)
		c.carryOutLocked(now)
	}
}

// forwarded and hint come from a router.
func (c *connection) forwarded(epoch eventlog.Epoch, f delivery.Forwarded, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		c.session.Forwarded(epoch, f, now)
		c.carryOutLocked(now)
	}
}

func (c *connection) hint(epoch eventlog.Epoch, sequence uint64, now time.Time) {
	c.input(now, func(s *session.Session) { s.Hint(epoch, sequence, now) })
}

// The following are answers of the log side.

func (c *connection) started(run uint32, epoch eventlog.Epoch, d cursor.Decision) {
	now := time.Now()
	c.input(now, func(s *session.Session) {
		s.Started(run, epoch, d.Entry, d.Resumed, now)
		// What was subscribed to while the start was being written is not in
		// the entry yet.
		c.saveSoonLocked()
	})
}

func (c *connection) startFailed(run uint32) {
	now := time.Now()
	c.input(now, func(s *session.Session) { s.StartFailed(run, now) })
}

func (c *connection) lastKnown(run uint32, last eventlog.Last, err error) {
	now := time.Now()
	c.input(now, func(s *session.Session) {
		if err != nil {
			s.AskFailed(run, now)
			return
		}
		s.LastKnown(run, last, now)
	})
}

func (c *connection) readDone(run uint32, page eventlog.Page, err error) {
	now := time.Now()
	c.input(now, func(s *session.Session) {
		if err != nil {
			s.ReadFailed(run, now)
			return
		}
		s.ReadDone(run, page, now)
	})
}

func (c *connection) deadLettered(run uint32, sequence uint64, stored bool) {
	now := time.Now()
	c.input(now, func(s *session.Session) {
		c.countDeadLetterLocked(stored)
		s.DeadLettered(run, sequence, stored, now)
	})
}

func (c *connection) countDeadLetterLocked(stored bool) {
	if stored {
		c.svc.metrics.event(outcomeDeadLettered, "dead_lettered", 1)
		return
	}
	c.svc.metrics.wsEvents.WithLabelValues("dead_lettered", "error").Inc()
}

func (c *connection) epochChanged(epoch eventlog.Epoch, now time.Time) {
	c.input(now, func(s *session.Session) { s.EpochChanged(epoch, now) })
}

// epoch returns the epoch that the session runs in; "" if it does not run.
func (c *connection) epoch() eventlog.Epoch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil || !c.session.Running() {
		return ""
	}
	return c.session.Epoch()
}

// saveAtLeast is how often an entry is saved though nothing has changed: one
// that is never written again would be taken for that of a daemon long gone.
const saveAtLeast = 6 * time.Hour

// check is the net.
func (c *connection) check(now time.Time) {
	c.input(now, func(s *session.Session) {
		s.Check(now)
		if s.Running() && now.Sub(c.saved) > saveAtLeast {
			c.saveSoonLocked()
		}
	})
}

// subscriptions returns a copy of what the daemon has subscribed to.
func (c *connection) subscriptions() []protocol.Subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return nil
	}
	return append([]protocol.Subscription(nil), c.session.Subscriptions()...)
}

// end closes the connection for a reason outside of it.
func (c *connection) end(code protocol.CloseCode, reason string) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.talk.End(code, reason)
	c.carryOutLocked(now)
}

// reconnect asks the daemon to go elsewhere.
func (c *connection) reconnect(reason string, delay time.Duration) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.talk.Reconnect(reason, delay)
	c.carryOutLocked(now)
}
