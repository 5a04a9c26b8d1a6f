package edge

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/conversation"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// begin, refused and diverted are the answers to Admit.

// begin makes the connection an orchestrator's, and tells the daemon.
func (c *connection) begin(limits *conversation.Limits) {
	c.converse(func(talk *conversation.Conversation, now time.Time) {
		c.session = session.New(c.svc.session(c))
		c.cursor = c.svc.log.cursors.Writer(c.token, c.daemon, c)
		c.admittedAt = now
		c.record.admitted(c.orchestrator, c.daemon, now)
		c.reportLocked(heartbeat.Beat{ReceivedAt: now, Opened: true})
		talk.Admitted(limits, c.session, now)
		token, _ := talk.Bearer()
		c.svc.refusals.audit.Write(audit.SessionBegan, "", "orchestrator", c.orchestrator, "daemon", c.daemon, "session", c.id,
			"address", c.addr, "organization", c.organization, "token_id", token.TokenID, "expires", token.ExpiresAt)
		c.moveLocked(stateAuthenticated)
		c.sayLocked(trace.Connected, c.addr.String())
	})
}

func (c *connection) refused(code protocol.AuthErrorCode, message string) {
	c.converse(func(talk *conversation.Conversation, _ time.Time) { talk.Refused(code, message) })
}

func (c *connection) diverted(reason string, delay time.Duration, code protocol.CloseCode) {
	c.converse(func(talk *conversation.Conversation, _ time.Time) { talk.Diverted(reason, delay, code) })
}

// confirmed and unconfirmed are the answers to Confirm.

func (c *connection) confirmed(token auth.Identity) {
	c.converse(func(talk *conversation.Conversation, now time.Time) {
		if c.session == nil {
			return
		}
		before := talk.Within(c.session.Subscriptions())
		talk.Confirmed(token, now)
		after := talk.Within(c.session.Subscriptions())
		if less := !cursor.Covers(after, before); less || !cursor.Covers(before, after) {
			c.session.Rescope(less)
		}
	})
}

func (c *connection) unconfirmed(err error, inReplyTo string) {
	c.converse(func(talk *conversation.Conversation, _ time.Time) { talk.Unconfirmed(err, inReplyTo) })
}

// dismissed ends the connection because its token is no good any more.
func (c *connection) dismissed(code protocol.AuthErrorCode, message string) {
	c.converse(func(talk *conversation.Conversation, _ time.Time) { talk.Dismiss(code, message) })
}

// end closes the connection for a reason outside of it.
func (c *connection) end(code protocol.CloseCode, reason string) {
	c.converse(func(talk *conversation.Conversation, _ time.Time) { talk.End(code, reason) })
}

// reconnect asks the daemon to go elsewhere.
func (c *connection) reconnect(reason string, delay time.Duration) {
	c.converse(func(talk *conversation.Conversation, _ time.Time) { talk.Reconnect(reason, delay) })
}

// moveAway asks the daemon to reconnect for the sake of balance.
func (c *connection) moveAway(delay time.Duration, now time.Time) {
	c.converse(func(talk *conversation.Conversation, _ time.Time) {
		c.toldAt = now
		talk.Reconnect("balancing", delay)
	})
}

// upSince returns since when the connection has been the orchestrator's, or had
// been told to go and stayed; false if it is not, or not any more.
func (c *connection) upSince() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return time.Time{}, false
	}
	if c.toldAt.After(c.admittedAt) {
		return c.toldAt, true
	}
	return c.admittedAt, true
}
