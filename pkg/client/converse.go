package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// hear acts on a message that is no event.
func (k *connection) hear(payload protocol.ServerPayload) {
	switch p := payload.(type) {
	case protocol.AuthSuccess:
		k.renewing = false
	case protocol.AuthError:
		k.refused = &p
		k.timers.leave.Reset(refusedGrace)
	case protocol.TokenExpiring:
		if !k.renewing {
			k.timers.token.Reset(0)
		}
	case protocol.Reconnection:
		if !k.asked && k.refused == nil {
			k.asked, k.leaveAt = true, time.Now().Add(p.Delay)
			k.timers.leave.Reset(p.Delay)
		}
	case protocol.RateLimit:
		k.pause(p)
	case *protocol.Fault:
		k.warn(p)
	case protocol.HeartbeatAck, protocol.Subscribed: // the reader has noted them
	}
}

func (k *connection) warn(f *protocol.Fault) {
	k.client.cfg.Logger.Warn("gateway reports an error",
		"session", string(k.session), "code", string(f.Code), "field", f.Field, "error", f.Message)
}

// pause keeps to a limit: what was not carried out is sent again after it.
func (k *connection) pause(limit protocol.RateLimit) {
	wait := max(limit.RetryAfter, minPause)
	k.client.cfg.Logger.Warn("gateway limits the rate", "session", string(k.session), "action", limit.Action, "wait", wait)
	switch protocol.MessageType(limit.Action) {
	case protocol.TypeHeartbeat:
		k.beatSent = time.Time{}
		k.timers.dead.Stop()
		k.timers.beat.Reset(max(wait, k.beatInterval()))
		k.timers.progress.Reset(max(wait, progressInterval))
	case protocol.TypeAck:
		k.noAcks = time.Now().Add(wait)
		k.timers.ack.Reset(wait)
	default:
		// The limit does not say which message it refused. To subscribe again
		// what is subscribed already changes nothing.
		k.timers.subscribe.Reset(wait)
		if k.renewing {
			k.timers.token.Reset(wait)
		}
	}
}

func (k *connection) subscribe(ctx context.Context) error {
	for _, s := range k.client.cfg.Subscriptions {
		if err := k.send(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// acknowledge sends what waits, in as few messages as it takes; what comes
// meanwhile waits for the next interval.
func (k *connection) acknowledge(ctx context.Context) error {
	now := time.Now()
	if wait := k.noAcks.Sub(now); wait > 0 {
		k.timers.ack.Reset(wait)
		return nil
	}
	k.noAcks = now.Add(k.client.cfg.AckInterval)
	for more := true; more; {
		var ids []string
		if ids, more = k.client.acks.take(); len(ids) == 0 {
			break
		}
		if err := k.send(ctx, protocol.Ack{EventIDs: ids}); err != nil {
			k.client.acks.add(ids...)
			return err
		}
	}
	if !k.client.acks.empty() {
		k.timers.ack.Reset(k.client.cfg.AckInterval)
	}
	return nil
}

// sendHeartbeat sends one and expects an answer. What is sent while one waits
// does not extend the wait.
func (k *connection) sendHeartbeat(ctx context.Context) error {
	k.timers.beat.Reset(k.beatInterval())
	if k.beatSent.IsZero() || k.heardSince(k.beatSent) {
		k.beatSent = time.Now()
		k.timers.dead.Reset(k.patience())
	}
	return k.send(ctx, k.health())
}

// health is what a heartbeat reports. Nothing in it may cost the connection.
func (k *connection) health() protocol.Heartbeat {
	health := k.client.cfg.Health()
	health.InProgress = fitting(append(k.client.memory.inProgress(0, time.Now()), health.InProgress...))
	if len(health.Metrics) > 0 && (len(health.Metrics) > protocol.MaxMetricsBytes || !json.Valid(health.Metrics)) {
		k.client.cfg.Logger.Warn("metrics that are too large, or not JSON, are left out of heartbeats",
			"session", string(k.session), "bytes", len(health.Metrics))
		health.Metrics = nil
	}
	return health
}

// sendProgress sends a heartbeat out of turn if the handler has been working on
// an event for at least that long.
func (k *connection) sendProgress(ctx context.Context, least time.Duration) error {
	k.timers.progress.Reset(progressInterval)
	if len(k.client.memory.inProgress(least, time.Now())) == 0 {
		return nil
	}
	return k.sendHeartbeat(ctx)
}

// checkAlive ends a connection whose other side has been silent for too long
// after a heartbeat. Any frame counts as an answer; while the reader waits for
// a slow handler nothing can be heard, so the wait starts again.
func (k *connection) checkAlive() error {
	switch {
	case k.stalled.Load():
		k.beatSent = time.Now()
		k.timers.dead.Reset(k.patience())
	case k.heardSince(k.beatSent):
		k.beatSent = time.Time{}
	default:
		return fmt.Errorf("%w: no answer to a heartbeat within %s", ErrDead, k.patience())
	}
	return nil
}

func (k *connection) heardSince(t time.Time) bool {
	return time.Duration(k.heard.Load()) >= t.Sub(k.opened)
}

// beatInterval is how often heartbeats are sent.
func (k *connection) beatInterval() time.Duration {
	if own := k.client.cfg.HeartbeatInterval; own > 0 {
		return min(own, k.heartbeat)
	}
	return k.heartbeat
}

func (k *connection) patience() time.Duration {
	if t := k.client.cfg.HeartbeatTimeout; t > 0 {
		return t
	}
	return k.heartbeat
}

// fetchToken gets a fresh token in the background, because that may take long
// and nothing else should wait.
func (k *connection) fetchToken(ctx context.Context) {
	if k.fetching {
		return
	}
	k.fetching, k.renewing = true, true
	k.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, k.client.cfg.ConnectTimeout)
		defer cancel()
		token, err := k.client.cfg.Token(ctx)
		k.tokens <- freshToken{token, err} // has room for the only one
	})
}

func (k *connection) reauthenticate(ctx context.Context, fresh freshToken) error {
	k.fetching = false
	if fresh.err != nil {
		// The session goes on until the old token expires.
		k.client.cfg.Logger.Warn("no fresh token yet", "session", string(k.session), "error", fresh.err)
		k.timers.token.Reset(tokenRetry)
		return nil
	}
	return k.send(ctx, k.auth(fresh.token, false))
}
