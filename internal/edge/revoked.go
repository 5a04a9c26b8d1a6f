package edge

import (
	"context"
	"log/slog"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// gate verifies tokens, and refuses those that are good and revoked.
type gate struct {
	*auth.Verifier
	revoked *revocation.List
}

// Verify is that of auth.Verifier, and refuses what is revoked.
func (g *gate) Verify(token string, now time.Time) (auth.Identity, error) {
	id, err := g.Verifier.Verify(token, now)
	if err == nil && g.revokes(now, id, id.Daemon, id.Orchestrator) {
		return auth.Identity{}, &auth.Error{Reason: auth.ReasonRevoked}
	}
	return id, err
}

// CheckClaimed is that of auth.Verifier, and refuses a daemon that is revoked where
// it may have another id than its token's.
func (g *gate) CheckClaimed(id auth.Identity, orchestrator protocol.OrchestratorID, daemon protocol.DaemonID) error {
	if err := g.Verifier.CheckClaimed(id, orchestrator, daemon); err != nil {
		return err
	}
	if g.revokes(time.Now(), auth.Identity{}, daemon, orchestrator) {
		return &auth.Error{Reason: auth.ReasonRevoked}
	}
	return nil
}

// revokes reports whether a token, a daemon or an orchestrator is revoked; what is
// empty is not asked for.
func (g *gate) revokes(now time.Time, token auth.Identity, daemon protocol.DaemonID, orchestrator protocol.OrchestratorID) bool {
	if g.revoked.Empty() {
		return false
	}
	keys := make([]revocation.Key, 0, 3)
	if token.TokenID != "" {
		keys = append(keys, revocation.KeyOf(revocation.Token, token.TokenID))
	}
	if daemon != "" {
		keys = append(keys, revocation.KeyOf(revocation.Daemon, daemon))
	}
	if orchestrator != "" {
		keys = append(keys, revocation.KeyOf(revocation.Orchestrator, orchestrator))
	}
	_, _, found := g.revoked.Revokes(now, keys...)
	return found
}

// sweepPause gathers what is revoked together, since each time all connections
// are looked at.
const sweepPause = 200 * time.Millisecond

// revoker ends the connections of what has been revoked.
type revoker struct {
	gate        *gate
	connections func() []*connection
	changed     chan struct{} // holds one token when something was revoked
	metrics     *metrics
	logger      *slog.Logger
}

// note says that something was revoked.
func (r *revoker) note() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Run ends connections until ctx ends.
func (r *revoker) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
		}
		if !r.gate.revoked.Empty() {
			for _, c := range r.connections() {
				r.look(c)
			}
		}
		lifecycle.Sleep(ctx, sweepPause)
	}
}

// look ends a connection if it is revoked.
func (r *revoker) look(c *connection) {
	token, daemon, orchestrator := c.bearer()
	now := time.Now()
	if !r.gate.revokes(now, token, daemon, token.Orchestrator) && !r.gate.revokes(now, auth.Identity{}, "", orchestrator) {
		return
	}
	r.metrics.terminations.Of(terminatedRevoked).Inc()
	r.logger.Info("connection ended, it is revoked", "orchestrator", c.token, "daemon", daemon, "session", c.id, "address", c.addr)
	c.end(protocol.CloseSessionTerminated, "revoked")
}

// bearer returns whose connection it is: the token, the daemon, and the
// orchestrator that the token stands for; empty as long as they are not known.
func (c *connection) bearer() (auth.Identity, protocol.DaemonID, protocol.OrchestratorID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	token, daemon := c.talk.Bearer()
	if c.session == nil || token.Orchestrator == "" {
		return token, daemon, ""
	}
	return token, daemon, c.orchestrator
}
