package conversation

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// expiryNotice is how long before the end of the session token_expiring is
// sent at most; a session that is shorter than four times as long is told after
// three quarters of it.
const expiryNotice = 2 * time.Minute

func (c *Conversation) authenticate(id string, p protocol.Auth, now time.Time) {
	c.claimed = protocol.Auth{OrchestratorID: p.OrchestratorID, DaemonID: p.DaemonID}
	identity, err := c.verify(p, now)
	if err != nil {
		c.refuse(err, id)
		return
	}
	// The same texts, which are kept for as long as the connection lasts, once.
	p.OrchestratorID, c.claimed.OrchestratorID = identity.Orchestrator, identity.Orchestrator
	if identity.Daemon == p.DaemonID {
		identity.Daemon = p.DaemonID
	}
	if c.phase == phaseAuthenticated {
		c.emit(Confirm{Identity: identity, InReplyTo: id})
		return
	}
	c.phase = phaseAdmitting
	c.identity, c.daemon = identity, p.DaemonID
	c.emit(Admit{Identity: identity, Auth: p})
}

func (c *Conversation) verify(p protocol.Auth, now time.Time) (auth.Identity, error) {
	identity, err := c.cfg.Verifier.Verify(p.AccessToken, now)
	if err != nil {
		return auth.Identity{}, err
	}
	if err := c.cfg.Verifier.CheckClaimed(identity, p.OrchestratorID, p.DaemonID); err != nil {
		return auth.Identity{}, err
	}
	if c.phase == phaseAuthenticated && (identity.Orchestrator != c.identity.Orchestrator || p.DaemonID != c.daemon) {
		return auth.Identity{}, &auth.Error{Reason: auth.ReasonOtherSession}
	}
	return identity, nil
}

// refuse answers a token that was not accepted. What is not an *auth.Error is
// not shown to the daemon.
func (c *Conversation) refuse(err error, inReplyTo string) {
	var refusal *auth.Error
	if !errors.As(err, &refusal) {
		refusal = &auth.Error{Reason: auth.ReasonInvalidClaim}
	}
	c.emit(AuthRefused{refusal.Reason})
	switch {
	case !refusal.Passes():
		c.deny(refusal.Code(), refusal.Error())
	case c.phase == phaseAuthenticated:
		// The session goes on as long as its own token.
		c.reply(&protocol.Fault{Code: protocol.InternalError, Message: refusal.Error(), InReplyTo: inReplyTo})
	default:
		c.postpone(refusal)
	}
}

// What a daemon is told to wait, and up to as much again, before it comes back
// with a token that may be good then; and the longest, since a clock may be set
// right at any time.
const (
	comeBackDelay   = 5 * time.Second
	longestComeBack = 5 * time.Minute
)

// postpone has the daemon come back with the same token.
func (c *Conversation) postpone(refusal *auth.Error) {
	delay := min(max(refusal.Wait, comeBackDelay), longestComeBack)
	c.reply(protocol.Reconnection{Reason: refusal.Error(), Delay: delay + c.share(delay)})
	c.End(protocol.CloseGoingAway, string(refusal.Reason))
}

// share is a part of a time that differs from conversation to conversation, so
// that what ends for many at once brings not all of them back at once.
func (c *Conversation) share(of time.Duration) time.Duration {
	hash := sha256.Sum256([]byte(c.session))
	return time.Duration(float64(binary.BigEndian.Uint64(hash[:])>>11) / (1 << 53) * float64(of))
}

func (c *Conversation) deny(code protocol.AuthErrorCode, message string) {
	c.reply(protocol.AuthError{Code: code, Message: message})
	c.End(code.CloseCode(), string(code))
}

// Admitted is an answer to Admit: the connection counts as the orchestrator's.
func (c *Conversation) Admitted(limits *Limits, delivery Delivery, now time.Time) {
	if c.phase != phaseAdmitting {
		return
	}
	c.phase = phaseAuthenticated
	c.limits, c.delivery = limits, delivery
	c.alive(now)
	c.extend(c.identity, now)
}

// Refused is an answer to Admit: the daemon may not connect.
func (c *Conversation) Refused(code protocol.AuthErrorCode, message string) {
	if c.phase == phaseAdmitting {
		c.deny(code, message)
	}
}

// Dismiss ends the session of a daemon that turned out not to be who its token
// says.
func (c *Conversation) Dismiss(code protocol.AuthErrorCode, message string) {
	if c.phase == phaseAuthenticated {
		c.deny(code, message)
	}
}

// Confirmed is an answer to Confirm: the session goes on with the fresh token.
func (c *Conversation) Confirmed(identity auth.Identity, now time.Time) {
	if c.phase == phaseAuthenticated {
		c.extend(identity, now)
	}
}

// Unconfirmed is an answer to Confirm: why the session cannot be extended.
func (c *Conversation) Unconfirmed(err error, inReplyTo string) {
	if c.phase == phaseAuthenticated {
		c.refuse(err, inReplyTo)
	}
}

// Diverted is an answer to Admit: the daemon is to come back later, or to
// another edge.
func (c *Conversation) Diverted(reason string, delay time.Duration, code protocol.CloseCode) {
	if c.phase == phaseAdmitting {
		c.reply(protocol.Reconnection{Reason: reason, Delay: delay})
		c.End(code, reason)
	}
}

// extend begins, or prolongs, the session that the token allows. Tokens that were
// issued together, as after an outage, expire together: their connections are told
// and closed over a time, so that not all of them come back at once.
func (c *Conversation) extend(identity auth.Identity, now time.Time) {
	c.identity = identity
	c.expiresAt = identity.ExpiresAt.UTC()
	lenient := !c.expiresAt.After(now)
	if lenient {
		// Accepted within the leeway for clocks that disagree, which the session
		// then has as well.
		c.expiresAt = c.expiresAt.Add(auth.Leeway)
	}
	left := c.expiresAt.Sub(now)
	spread := c.share(min(auth.Leeway, left/4))
	c.closeAt = c.expiresAt
	if !lenient {
		c.closeAt = c.expiresAt.Add(spread) // still within the leeway
	}
	c.noticeAt = c.expiresAt.Add(-min(expiryNotice, left/4) - spread)
	c.reply(protocol.AuthSuccess{
		SessionID: c.session, Scopes: identity.Scopes.List(), ServerTime: now,
		HeartbeatInterval: c.cfg.HeartbeatInterval, ExpiresAt: c.expiresAt,
	})
}

// alive pushes the deadline for heartbeats.
func (c *Conversation) alive(now time.Time) {
	c.heartbeatBy = now.Add(protocol.MissedHeartbeats * c.cfg.HeartbeatInterval)
}
