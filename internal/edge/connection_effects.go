package edge

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/edge/conversation"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// carryOutLocked does what the two machines ask for, and sets the alarm for
// the next tick. c.mu is held.
func (c *connection) carryOutLocked(now time.Time) {
	for _, e := range c.talk.Take() {
		c.answerLocked(e, now)
	}
	for c.session != nil {
		withheld := c.deliverLocked(c.session.Take(), now)
		if len(withheld) == 0 {
			break
		}
		c.withholdLocked(withheld, now)
	}
	c.wakeLocked()
}

// answerLocked carries out an effect of the conversation. c.mu is held.
func (c *connection) answerLocked(e conversation.Effect, now time.Time) {
	m := c.svc.metrics
	switch e := e.(type) {
	case conversation.Reply:
		if e.Payload.Type() == protocol.TypeRateLimit {
			m.rateLimited.Inc()
			c.overLimitLocked(e)
		}
		c.socket.Send(protocol.AppendFrame(nil, now, e.Payload))
	case conversation.Close:
		c.socket.Close(int(e.Code), e.Reason)
	case conversation.Admit:
		c.admit = &e
	case conversation.Confirm:
		c.confirm = &e
	case conversation.Pause:
		c.pause = max(c.pause, e.For)
	case conversation.AuthRefused:
		c.svc.refusals.token(e.Reason, c.bearerLocked()...)
	case conversation.Acked:
		m.event(outcomeAcked, "acked", e.Events)
		c.record.acked(e.Events)
	case conversation.LeftOut:
		c.leftOutLocked(e)
	case conversation.Beat:
		c.reportLocked(heartbeat.Beat{Status: e.Status, Metrics: e.Metrics, ReceivedAt: now})
	}
}

// overLimitLocked tells the audit log of a message that is not carried out. c.mu is
// held.
func (c *connection) overLimitLocked(e conversation.Reply) {
	action := protocol.ActionMessages
	if limit, ok := e.Payload.(protocol.RateLimit); ok {
		action = limit.Action
	}
	c.svc.refusals.audit.Write(audit.OverLimit, action, c.bearerLocked()...)
}

// reportLocked passes on what the daemon says of itself. c.mu is held.
func (c *connection) reportLocked(b heartbeat.Beat) {
	b.Orchestrator, b.Daemon, b.Session, b.Organization = c.orchestrator, c.daemon, c.id, c.organization
	b.ConnectedAt, b.Named = c.admittedAt, c.named
	c.svc.heartbeats.Add(c.partition, b)
}

// leftOutLocked counts what was left out of a message. The daemon is told by the
// conversation. c.mu is held.
func (c *connection) leftOutLocked(e conversation.LeftOut) {
	for _, field := range e.Fields {
		c.svc.metrics.leftOut.Of(field).Inc()
	}
	if e.First {
		c.svc.logger.Debug("a message was read without some of its fields",
			"orchestrator", c.token, "daemon", c.daemon, "session", c.id, "detail", e.Detail)
	}
}

// deliverLocked carries out effects of the session, and returns the events
// among them that may not be sent. c.mu is held.
func (c *connection) deliverLocked(effects []session.Effect, now time.Time) (withheld []session.Send) {
	log := c.svc.log
	for _, e := range effects {
		switch e := e.(type) {
		case session.Begin:
			if c.attachFrom.IsZero() {
				c.attachFrom = now
			}
			log.start(c, e.Run, e.Patient)
		case session.AskLast:
			log.askLast(c, e.Run)
		case session.Read:
			c.svc.metrics.catchUps.Of(e.Cause).Inc()
			c.sayLocked(trace.CatchesUp, string(e.Cause))
			log.read(c, e)
		case session.Subscribed:
			c.subscribedLocked(e, now)
		case session.Send:
			if !c.talk.Allows(e.Event.Type) {
				withheld = append(withheld, e)
				continue
			}
			c.socket.SendEvents(newFrame(e))
		case session.DeadLetter:
			log.deadLetter(c, e, c.session.Epoch())
		case session.Save:
			c.save(e.Now)
		case session.RefreshEpoch:
			log.refreshEpoch(c.partition)
		case session.Filtered:
			c.svc.metrics.filtered.Of(e.Why).Inc()
			c.svc.metrics.wsEvents.Of("filtered").Inc()
		case session.WindowFull:
			c.svc.metrics.windowsFull.Inc()
			c.sayLocked(trace.WindowFull, "")
		case session.Trace:
			c.traceLocked(e.Record)
		}
	}
	return withheld
}

// withholdLocked settles events that match a subscription to "*" and that the
// token's scopes do not allow. c.mu is held.
func (c *connection) withholdLocked(sends []session.Send, now time.Time) {
	for _, s := range sends {
		c.svc.metrics.event(outcomeWithheld, "filtered", 1)
		c.session.Withhold(s.Run, s.Position.Sequence, now)
	}
}

func (c *connection) subscribedLocked(e session.Subscribed, now time.Time) {
	if e.First {
		c.attachedLocked(e.Position, now)
	}
	payload := protocol.Subscribed{Position: e.Position.String(), Resumed: e.Resumed, Truncated: e.Truncated}
	c.socket.Send(protocol.AppendFrame(nil, now, payload))
}

func (c *connection) attachedLocked(at eventlog.Position, now time.Time) {
	c.moveLocked(stateSubscribed)
	c.record.subscribed(now)
	c.sayLocked(trace.Subscribed, "at "+at.String())
	c.svc.metrics.attaches.Inc()
	c.svc.metrics.attachSeconds.Observe(now.Sub(c.attachFrom).Seconds())
}

func (c *connection) moveLocked(to connectionState) {
	c.svc.metrics.moved(c.state, to)
	c.state = to
}

// wakeLocked sets the alarm to when the next of the two machines wants a tick.
func (c *connection) wakeLocked() {
	wake := c.talk.Wake()
	if c.session != nil {
		if w := c.session.Wake(); !w.IsZero() && (wake.IsZero() || w.Before(wake)) {
			wake = w
		}
	}
	if !wake.IsZero() && (c.wakeAt.IsZero() || wake.Before(c.wakeAt)) {
		c.wakeAt = wake
		c.svc.wheel.Set(c.alarm, wake)
	}
}
