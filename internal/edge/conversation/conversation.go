// Package conversation is the protocol's side of one connection: who may speak,
// what is answered, what is over a limit, and when the connection has to end.
// What the daemon is sent is decided by package session, to which a
// Conversation passes on subscriptions and acks.
//
// A Conversation is a pure state machine like a session: inputs are method
// calls with the time, outputs are effects that the caller takes and carries
// out. It has no clock, no lock and no I/O.
//
//	anonymous ──auth──▶ admitting ──Admitted──▶ authenticated ──▶ closed
//	    └─ 4001, 4002        └─ 4006 over the limit     └─ 4003, 4004, 4006
package conversation

import (
	"encoding/json"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Verifier decides who a daemon is.
type Verifier interface {
	Verify(token string, now time.Time) (auth.Identity, error)
	CheckClaimed(id auth.Identity, orchestrator protocol.OrchestratorID, daemon protocol.DaemonID) error
}

// Delivery is what subscriptions and acks go to.
type Delivery interface {
	Subscriptions() []protocol.Subscription
	Subscribe(added []protocol.Subscription, now time.Time)
	Confirm()
	Unsubscribe(patterns []protocol.Pattern, now time.Time)
	Ack(ids []string, now time.Time) int
	InProgress(ids []string, now time.Time) int
	Heard(now time.Time)
}

// Config is what all conversations of an edge have in common.
type Config struct {
	Verifier          Verifier
	AuthTimeout       time.Duration
	HeartbeatInterval time.Duration
	Rates             Rates
}

// Effect is something the caller has to do, in the order given.
type Effect interface{ isEffect() }

// Reply is a message to the daemon.
type Reply struct{ Payload protocol.ServerPayload }

// Close ends the connection after the replies before it.
type Close struct {
	Code   protocol.CloseCode
	Reason string
}

// Admit asks whether the cluster has room for this connection; then for
// Admitted, Refused or Diverted.
type Admit struct {
	Identity auth.Identity
	Auth     protocol.Auth
}

// Confirm asks whether the orchestrator of a fresh token still exists; then for
// Confirmed or Unconfirmed.
type Confirm struct {
	Identity  auth.Identity
	InReplyTo string
}

// Pause asks that nothing be read from the daemon for a while.
type Pause struct{ For time.Duration }

// AuthRefused is for the metrics.
type AuthRefused struct{ Reason auth.Reason }

// Acked is for the metrics.
type Acked struct{ Events int }

// Beat is a heartbeat that was accepted.
type Beat struct {
	// Status is the one said last; empty if the daemon has never said.
	Status protocol.Status
	// Metrics is nil where this heartbeat has none.
	Metrics json.RawMessage
}

// LeftOut says that a message was read without some of its optional fields.
type LeftOut struct {
	Fields []string
	// Detail says what was wrong with them.
	Detail string
	// First: it is the first such message of this connection.
	First bool
}

func (Reply) isEffect()       {}
func (Close) isEffect()       {}
func (Admit) isEffect()       {}
func (Confirm) isEffect()     {}
func (Pause) isEffect()       {}
func (AuthRefused) isEffect() {}
func (Acked) isEffect()       {}
func (Beat) isEffect()        {}
func (LeftOut) isEffect()     {}

type phase uint8

const (
	phaseAnonymous phase = iota
	phaseAdmitting
	phaseAuthenticated
	phaseClosed
)

// Conversation is the state of one connection. It is not safe for concurrent use.
type Conversation struct {
	cfg     *Config
	session protocol.SessionID
	phase   phase

	authBy   time.Time // anonymous: the latest time for auth
	limits   *Limits   // the connection's own before it is authenticated
	delivery Delivery  // nil before it is authenticated

	claimed     protocol.Auth // the last, without its token
	identity    auth.Identity
	daemon      protocol.DaemonID
	status      protocol.Status // of the heartbeats; empty: not said yet
	expiresAt   time.Time       // when the daemon is told that the session ends without a fresh auth
	closeAt     time.Time       // when it does
	noticeAt    time.Time       // when token_expiring is due; zero: sent
	heartbeatBy time.Time       // when the connection is given up without a heartbeat
	overSince   time.Time       // since when the daemon has been over a limit
	overLast    time.Time       // the last message over a limit
	toldLeftOut bool            // that a message was read without some of its fields
	sentAway    bool            // the daemon was asked to reconnect
	failed      bool            // the connection was closed because the daemon failed it

	effects []Effect
}

// New returns the conversation of a connection that was accepted now.
func New(cfg *Config, session protocol.SessionID, now time.Time) Conversation {
	return Conversation{cfg: cfg, session: session, authBy: now.Add(cfg.AuthTimeout)}
}

// Take returns the effects since the last call; valid until the next input.
func (c *Conversation) Take() []Effect {
	out := c.effects
	c.effects = nil
	return out
}

// Authenticated reports whether the daemon has been admitted and may be sent
// events.
func (c *Conversation) Authenticated() bool { return c.phase == phaseAuthenticated }

// Bearer returns whose connection it is, or is about to become; zero if nobody's, or
// not any more.
func (c *Conversation) Bearer() (auth.Identity, protocol.DaemonID) {
	if c.phase == phaseClosed {
		return auth.Identity{}, ""
	}
	return c.identity, c.daemon
}

// Claimed returns what the daemon said in its last auth that it is, true or not.
func (c *Conversation) Claimed() (protocol.OrchestratorID, protocol.DaemonID) {
	return c.claimed.OrchestratorID, c.claimed.DaemonID
}

// Allows reports whether the token's scopes allow an event of this type.
func (c *Conversation) Allows(t protocol.EventType) bool { return c.identity.Scopes.AllowsEvent(t) }

// Within returns what a daemon that has subscribed so is sent: what the token's
// scopes allow of that. subs is not modified.
func (c *Conversation) Within(subs []protocol.Subscription) []protocol.Subscription {
	if c.identity.Scopes.Unrestricted() {
		return subs
	}
	var allowed []protocol.Subscription
	for _, s := range subs {
		for _, p := range c.identity.Scopes.Within(s.Pattern) {
			allowed = append(allowed, protocol.Subscription{Pattern: p, Channels: s.Channels})
		}
	}
	return allowed
}

// Tick lets time pass. It is wanted at Wake, and harmless at any other time.
func (c *Conversation) Tick(now time.Time) {
	switch c.phase {
	case phaseAnonymous:
		if !now.Before(c.authBy) {
			c.emit(AuthRefused{auth.ReasonTimeout})
			c.End(protocol.CloseAuthTimeout, "AUTH_TIMEOUT")
		}
	case phaseAuthenticated:
		c.tickAuthenticated(now)
	}
}

func (c *Conversation) tickAuthenticated(now time.Time) {
	switch {
	case !now.Before(c.closeAt):
		c.reply(protocol.AuthError{Code: protocol.AuthTokenExpired, Message: "the access token has expired"})
		c.End(protocol.CloseTokenExpired, "TOKEN_EXPIRED")
	case !now.Before(c.heartbeatBy):
		c.failed = true
		c.End(protocol.CloseSessionTerminated, "missed heartbeats")
	case !c.noticeAt.IsZero() && !now.Before(c.noticeAt):
		c.noticeAt = time.Time{}
		c.reply(protocol.TokenExpiring{ExpiresAt: c.expiresAt})
	}
}

// Wake returns when the next Tick is wanted; zero: never.
func (c *Conversation) Wake() time.Time {
	switch c.phase {
	case phaseAnonymous:
		return c.authBy
	case phaseAuthenticated:
		wake := c.closeAt
		if c.heartbeatBy.Before(wake) {
			wake = c.heartbeatBy
		}
		if !c.noticeAt.IsZero() && c.noticeAt.Before(wake) {
			wake = c.noticeAt
		}
		return wake
	}
	return time.Time{}
}

// End closes the connection, whoever wants it. It does nothing the second time.
func (c *Conversation) End(code protocol.CloseCode, reason string) {
	if c.phase != phaseClosed {
		c.phase = phaseClosed
		c.emit(Close{Code: code, Reason: reason})
	}
}

// Refuse answers a frame that cannot be accepted at all; the socket closes
// with the code by itself.
func (c *Conversation) Refuse(problem string) {
	if c.phase != phaseClosed {
		c.phase, c.failed = phaseClosed, true
		c.reply(&protocol.Fault{Code: protocol.InvalidMessage, Message: problem})
	}
}

// Broke reports whether a connection that has ended with this code broke: cut
// off without a close frame, or closed because the daemon was silent or sent what
// cannot be accepted. It did not where the daemon was about to leave anyway, to
// reconnect or for a fresh token, nor where it was closed for another reason.
func (c *Conversation) Broke(code protocol.CloseCode, byPeer bool) bool {
	if c.sentAway || c.noticeAt.IsZero() {
		return false
	}
	return c.failed || byPeer && code == protocol.CloseAbnormal
}

// Reconnect asks the daemon to wait for the delay, close, and connect again.
func (c *Conversation) Reconnect(reason string, delay time.Duration) {
	if c.phase == phaseAuthenticated || c.phase == phaseAnonymous {
		c.sentAway = true
		c.reply(protocol.Reconnection{Reason: reason, Delay: delay})
	}
}

func (c *Conversation) emit(e Effect) { c.effects = append(c.effects, e) }

func (c *Conversation) reply(p protocol.ServerPayload) { c.emit(Reply{p}) }
