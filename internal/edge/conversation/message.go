package conversation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/quote"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// maxChannels bounds the channel ids of all subscriptions of a connection,
// counted for each pattern.
const maxChannels = 5 * protocol.MaxChannelIDs

// overPause is how long nothing is read from a daemon after a message over a
// limit.
const overPause = 50 * time.Millisecond

// Message is a text frame of the daemon. The caller hands over the next one
// only when an Admit among the effects has been answered.
func (c *Conversation) Message(data []byte, now time.Time) {
	if c.phase == phaseClosed {
		return
	}
	m, fault := protocol.ParseClientMessage(data)
	if c.phase == phaseAuthenticated {
		c.delivery.Heard(now)
	}
	if !c.withinLimits(m, fault, now) {
		return
	}
	if c.phase != phaseAuthenticated && m.Type != "" && m.Type != protocol.TypeAuth {
		c.reply(&protocol.Fault{Code: protocol.NotAuthenticated, Message: "the first message must be auth", InReplyTo: m.ID})
		return
	}
	lenient := fault != nil && len(fault.LeftOut) > 0
	if fault != nil && !lenient {
		c.reply(fault)
		if fault.Close != 0 {
			c.End(fault.Close, string(fault.Code))
			return
		}
	}
	if m.Payload != nil {
		c.carryOut(m, now)
	}
	if lenient {
		c.tellLeftOut(fault)
	}
}

// tellLeftOut tells the daemon once for each connection: it says the same again
// with every heartbeat.
func (c *Conversation) tellLeftOut(fault *protocol.Fault) {
	c.emit(LeftOut{Fields: fault.LeftOut, Detail: fault.Detail, First: !c.toldLeftOut})
	if !c.toldLeftOut && c.phase != phaseClosed {
		c.toldLeftOut = true
		c.reply(fault)
	}
}

// withinLimits counts the message. Acks are never refused, only read slowly.
func (c *Conversation) withinLimits(m protocol.ClientMessage, fault *protocol.Fault, now time.Time) bool {
	if c.limits == nil {
		c.limits = NewLimits(c.cfg.Rates)
	}
	var wait time.Duration
	var count int
	action := protocol.ActionMessages
	switch {
	case fault == nil && m.Type == protocol.TypeAck && c.phase == phaseAuthenticated:
		c.paceAcks(now)
		return true
	case m.Type == protocol.TypeHeartbeat && c.phase == phaseAuthenticated:
		action = string(protocol.TypeHeartbeat)
		// A sign of life, though it may be faulty, or over the limit.
		c.alive(now)
		wait, count = c.limits.heartbeat(now)
	default:
		wait, count = c.limits.message(now)
	}
	if wait == 0 {
		return true
	}
	c.reply(protocol.RateLimit{Action: action, RetryAfter: wait, CurrentRate: count, MaxRate: c.cfg.Rates.MessagesPerMinute})
	// Each costs parsing and an answer, so that many would cost the other daemons
	// of the edge their share of it.
	c.emit(Pause{For: overPause})
	c.over(now)
	return false
}

// over closes a connection that goes on sending over the limit for a whole
// further minute.
func (c *Conversation) over(now time.Time) {
	if c.overSince.IsZero() || now.Sub(c.overLast) >= time.Minute {
		c.overSince = now
	}
	c.overLast = now
	if now.Sub(c.overSince) >= time.Minute {
		c.reply(&protocol.Fault{Code: protocol.RateLimited, Message: "over the message limit for more than a minute"})
		c.End(protocol.CloseRateLimited, "RATE_LIMITED")
	}
}

func (c *Conversation) paceAcks(now time.Time) {
	wait := c.limits.ack(now)
	if wait <= 0 {
		return
	}
	// What waits to be read may hold the heartbeats back.
	c.alive(now.Add(wait))
	c.emit(Pause{For: wait})
}

func (c *Conversation) carryOut(m protocol.ClientMessage, now time.Time) {
	switch p := m.Payload.(type) {
	case protocol.Auth:
		c.authenticate(m.ID, p, now)
	case protocol.Heartbeat:
		c.reply(protocol.HeartbeatAck{ServerTime: now, NextHeartbeat: now.Add(c.cfg.HeartbeatInterval)})
		if p.Status != "" {
			c.status = p.Status
		}
		c.emit(Beat{Status: c.status, Metrics: p.Metrics})
		c.delivery.InProgress(p.InProgress, now)
	case protocol.Subscribe:
		c.subscribe(m.ID, p, now)
	case protocol.Unsubscribe:
		c.delivery.Unsubscribe(p.EventTypes, now)
	case protocol.Ack:
		c.emit(Acked{Events: c.delivery.Ack(p.EventIDs, now)})
	}
}

// subscribe passes on what the scopes allow, and says what they do not.
func (c *Conversation) subscribe(id string, p protocol.Subscribe, now time.Time) {
	var allowed []protocol.Subscription
	var denied, missing []string
	for _, pattern := range p.EventTypes {
		scope := c.identity.Scopes.MissingFor(pattern)
		if scope == "" {
			allowed = append(allowed, protocol.Subscription{Pattern: pattern, Channels: p.ChannelIDs})
			continue
		}
		denied = append(denied, quote.Cut(string(pattern)))
		if !slices.Contains(missing, scope) {
			missing = append(missing, scope)
		}
	}
	if len(denied) > 0 {
		types, scopes := strings.Join(denied, ", "), strings.Join(missing, ", ")
		c.reply(&protocol.Fault{
			Code: protocol.ErrorInsufficientScope, Message: "the token's scopes do not allow " + types + ": missing " + scopes,
			Field: "payload.eventTypes", Detail: "not allowed: " + types + "; missing scopes: " + scopes, InReplyTo: id,
		})
	}
	if field, problem := c.tooMany(allowed); problem != "" {
		c.reply(&protocol.Fault{
			Code: protocol.InvalidMessage, Message: field + ": " + problem, Field: field, Detail: problem, InReplyTo: id,
		})
		return
	}
	c.delivery.Subscribe(allowed, now)
	if p.Confirm {
		c.delivery.Confirm()
	}
}

func (c *Conversation) tooMany(added []protocol.Subscription) (field, problem string) {
	have := c.delivery.Subscriptions()
	patterns, channels := len(have), 0
	for _, s := range have {
		channels += len(s.Channels)
	}
	for _, s := range added {
		channels += len(s.Channels)
		if !slices.ContainsFunc(have, func(h protocol.Subscription) bool { return h.Pattern == s.Pattern }) {
			patterns++
		}
	}
	switch {
	case patterns > protocol.MaxSubscriptions:
		return "payload.eventTypes", fmt.Sprintf("the connection would have %d subscriptions, expected at most %d", patterns, protocol.MaxSubscriptions)
	case channels > maxChannels && len(added) > 0 && len(added[0].Channels) > 0:
		return "payload.channelIds", fmt.Sprintf("the connection's subscriptions would name %d channels, expected at most %d", channels, maxChannels)
	}
	return "", ""
}
