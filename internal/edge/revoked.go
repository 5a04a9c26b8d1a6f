package edge

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// gate verifies tokens, and refuses those that are good and revoked, or used from
// where they may not be.
type gate struct {
	*auth.Verifier
	revoked *revocation.List
	origins *access.Origins // nil: orchestrators may connect from anywhere
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

// revokes reports whether a token, a daemon or an orchestrator, under any of its ids,
// is revoked; what is empty is not asked for.
func (g *gate) revokes(now time.Time, token auth.Identity, daemon protocol.DaemonID, orchestrator ...protocol.OrchestratorID) bool {
	if g.revoked.Empty() {
		return false
	}
	keys := make([]revocation.Key, 0, 5)
	if token.TokenID != "" {
		keys = append(keys, revocation.KeyOf(revocation.Token, token.TokenID))
	}
	if daemon != "" {
		keys = append(keys, revocation.KeyOf(revocation.Daemon, daemon))
	}
	for _, id := range orchestrator {
		if id != "" {
			keys = append(keys, revocation.KeyOf(revocation.Orchestrator, id))
		}
	}
	_, _, found := g.revoked.Revokes(now, keys...)
	return found
}

// admits returns, as an *auth.Error, why the bearer of a good token may not come in:
// the orchestrator that it stands for is revoked, or may not come from there.
func (g *gate) admits(token auth.Identity, who bearer, from netip.Addr) error {
	if g.revokes(time.Now(), auth.Identity{}, "", who.orchestrator, who.user) {
		return &auth.Error{Reason: auth.ReasonRevoked}
	}
	return g.checkOrigin(token, from, who.orchestrator, who.user)
}

// checkOrigin returns an *auth.Error if the bearer of a token may not come from an
// address. ids are those of the orchestrator that the token stands for, "" where they
// are not known.
func (g *gate) checkOrigin(token auth.Identity, from netip.Addr, ids ...protocol.OrchestratorID) error {
	if err := token.CheckOrigin(from); err != nil {
		return err
	}
	if !g.origins.Permit(from, append(ids, token.Orchestrator)...) {
		return &auth.Error{Reason: auth.ReasonWrongAddress}
	}
	return nil
}

// sweepPause gathers what is revoked together, since each time all connections
// are looked at.
const sweepPause = 200 * time.Millisecond

// revoker ends the connections of what has been revoked, and of those who may not
// come from where they are any more.
type revoker struct {
	gate        *gate
	connections func() []*connection
	changed     chan struct{} // holds one token when something was revoked or limited
	metrics     *metrics
	logger      *slog.Logger
}

// note says that something was revoked or limited.
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
		if !r.gate.revoked.Empty() || r.gate.origins != nil {
			for _, c := range r.connections() {
				r.look(c)
			}
		}
		lifecycle.Sleep(ctx, sweepPause)
	}
}

// look ends a connection if it is revoked, or may not come from where it is.
func (r *revoker) look(c *connection) {
	token, daemon, orchestrator, user := c.bearer()
	var why terminated
	var reason string
	switch {
	case r.gate.revokes(time.Now(), token, daemon, token.Orchestrator, orchestrator, user):
		why, reason = terminatedRevoked, "revoked"
	case r.gate.checkOrigin(token, c.addr, orchestrator, user) != nil:
		why, reason = terminatedAddress, "connections of this orchestrator from this address are not allowed"
	default:
		return
	}
	r.metrics.terminations.Of(why).Inc()
	r.logger.Info("connection ended, it is no longer allowed", "orchestrator", c.token, "daemon", daemon, "session", c.id, "address", c.addr,
		"reason", string(why))
	c.end(protocol.CloseSessionTerminated, reason)
}

// bearer returns whose connection it is: the token, the daemon, and both ids of the
// orchestrator that the token stands for; empty as long as they are not known.
func (c *connection) bearer() (token auth.Identity, daemon protocol.DaemonID, orchestrator, user protocol.OrchestratorID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	token, daemon = c.talk.Bearer()
	if c.session == nil || token.Orchestrator == "" {
		return token, daemon, "", ""
	}
	return token, daemon, c.orchestrator, c.user
}

// knownAs says what the other id of the connection's orchestrator is, where that was
// found out after it was admitted.
func (c *connection) knownAs(user protocol.OrchestratorID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user = user
}
