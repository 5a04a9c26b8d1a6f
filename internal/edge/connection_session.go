package edge

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Answered is called by the socket's reader.
func (c *connection) Answered(run uint32, sequence uint64) {
	c.input(func(s *session.Session, now time.Time) { s.Answered(run, sequence, now) })
}

// forwarded and hint come from a router.

func (c *connection) forwarded(epoch eventlog.Epoch, e *session.Candidate, after uint64) {
	c.input(func(s *session.Session, now time.Time) { s.Forwarded(epoch, e, after, now) })
}

func (c *connection) hint(epoch eventlog.Epoch, sequence uint64) {
	c.input(func(s *session.Session, now time.Time) { s.Hint(epoch, sequence, now) })
}

// The following are answers of the log side.

func (c *connection) started(run uint32, epoch eventlog.Epoch, d cursor.Decision) {
	c.input(func(s *session.Session, now time.Time) {
		if cursor.Covers(d.Entry.Subscriptions, c.talk.Within(s.Subscriptions())) {
			d.Entry.Subscriptions = s.Subscriptions() // of scopes the session knows nothing
		}
		s.Started(run, epoch, d.Entry, d.Resumed, now)
		c.reported = now
	})
}

func (c *connection) startFailed(run uint32) {
	c.input(func(s *session.Session, now time.Time) { s.StartFailed(run, now) })
}

func (c *connection) lastKnown(run uint32, last eventlog.Last, err error) {
	c.input(func(s *session.Session, now time.Time) {
		if err != nil {
			s.AskFailed(run, now)
			return
		}
		s.LastKnown(run, last, now)
	})
}

func (c *connection) readDone(run uint32, page eventlog.Page, err error) {
	c.input(func(s *session.Session, now time.Time) {
		if err != nil {
			s.ReadFailed(run, now)
			return
		}
		s.ReadDone(run, page, now)
	})
}

func (c *connection) deadLettered(run uint32, sequence uint64, stored bool) {
	c.input(func(s *session.Session, now time.Time) {
		c.countDeadLetterLocked(stored)
		s.DeadLettered(run, sequence, stored, now)
	})
}

func (c *connection) countDeadLetterLocked(stored bool) {
	if stored {
		c.svc.metrics.event(outcomeDeadLettered, "dead_lettered", 1)
		return
	}
	c.svc.metrics.wsFailed.Of("dead_lettered").Inc()
}

func (c *connection) epochChanged(epoch eventlog.Epoch) {
	c.input(func(s *session.Session, now time.Time) { s.EpochChanged(epoch, now) })
}

const (
	// reportAtLeast is how often an entry is written though nothing has changed:
	// one that is never written again would be taken for that of a daemon long
	// gone.
	reportAtLeast = 6 * time.Hour
	// reportPassed is how long what was passed over, and what waits for its ack,
	// stays unreported if nothing else has to be: after a crash it is read again.
	reportPassed = 10 * time.Minute
)

// check is the net.
func (c *connection) check() {
	c.input(func(s *session.Session, now time.Time) {
		s.Check(now)
		age := now.Sub(c.reported)
		if s.Running() && (age > reportAtLeast || age > reportPassed && s.Unreported() > 0) {
			c.cursor.SaveSoon()
		}
	})
}

func (c *connection) save(now bool) {
	if now {
		c.cursor.SaveNow()
		return
	}
	c.cursor.SaveSoon()
}

// Progress implements cursor.Reporter.
func (c *connection) Progress() (cursor.Progress, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.rescuedLocked()
	return c.progressLocked()
}

// progressLocked is what the cursor is to say. c.mu is held.
func (c *connection) progressLocked() (cursor.Progress, bool) {
	if c.session == nil || !c.session.Running() {
		return cursor.Progress{}, false
	}
	c.reported = time.Now()
	p := c.session.Progress(c.reported)
	p.Entry.Edge, p.Entry.Subscriptions = c.svc.log.self, c.talk.Within(p.Entry.Subscriptions)
	return p, true
}

// Recorded implements cursor.Reporter.
func (c *connection) Recorded(wants []protocol.Subscription) {
	c.input(func(s *session.Session, _ time.Time) {
		if cursor.Covers(wants, c.talk.Within(s.Subscriptions())) {
			s.Recorded()
		}
	})
}

// AnswersFor implements cursor.Reporter.
func (c *connection) AnswersFor(ids []protocol.DaemonID) {
	c.input(func(s *session.Session, now time.Time) { s.AnswersFor(ids, now) })
}

// Superseded implements cursor.Reporter.
func (c *connection) Superseded() {
	c.svc.admission.superseded(c)
}

// acknowledge is an ack that did not come by this connection's socket.
func (c *connection) acknowledge(ids []string) (answer ackAnswer) {
	c.input(func(s *session.Session, now time.Time) {
		if answer.Running = s.Running(); !answer.Running {
			// The ack goes to the cursor, which a start under way may have read already.
			s.Ack(ids, now)
			return
		}
		events := 0
		for _, id := range ids {
			if n := s.Ack([]string{id}, now); n > 0 {
				answer.Acknowledged = append(answer.Acknowledged, id)
				events += n
			}
		}
		c.svc.metrics.event(outcomeAcked, "acked", events)
		c.record.acked(events)
	})
	return answer
}

// What is asked of the session.

// epoch returns the epoch that the session runs in; "" if it does not run.
func (c *connection) epoch() eventlog.Epoch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil || !c.session.Running() {
		return ""
	}
	return c.session.Epoch()
}

// position returns up to where the session has considered the log; zero: it does
// not run.
func (c *connection) position() eventlog.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil || !c.session.Running() {
		return eventlog.Position{}
	}
	return c.session.Position()
}

// starting returns a copy of what the daemon has subscribed to and is allowed, and since
// which start it has wanted no less, if the answer to the Begin of this run is still
// awaited.
func (c *connection) starting(run uint32) (wants []protocol.Subscription, since uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.socket.Ended(): // it is being closed
		return nil, 0, false
	default:
	}
	if c.session == nil || !c.session.Starting(run) {
		return nil, 0, false
	}
	return append([]protocol.Subscription(nil), c.talk.Within(c.session.Subscriptions())...), c.session.Since(), true
}

// pingAnswer says what a ping that the daemon has answered here was sent after.
type pingAnswer struct {
	start uint64 // of the daemon, the last then
	whole bool   // its series of subscribes should have been over
}

// answered notes that the daemon has answered a ping here.
func (c *connection) answered(a pingAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lives = a
}

// livesSince reports whether the daemon has shown here that it is there since the
// start; whole: and since its series of subscribes should be over.
func (c *connection) livesSince(start uint64, whole bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lives.start == start && (c.lives.whole || !whole)
}

// unsettled returns how many events the session has in hand.
func (c *connection) unsettled() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return 0
	}
	return c.session.Unsettled()
}
