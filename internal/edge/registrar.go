package edge

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// recheckInterval is how often those who were admitted on their token alone
	// are looked up, recheckBatch of them at a time.
	recheckInterval = time.Second
	recheckBatch    = 1000
	// recheckSpread is how long at most a daemon is told to wait before it comes
	// back under another id: a random part of it, so that they do not come
	// together.
	recheckSpread = 10 * time.Second
	// recheckPatience is how long a daemon that was told to come back may stay.
	recheckPatience = 30 * time.Second
	// unavailableDelay, and up to as much again, is how long a daemon waits when
	// it is not let in because PostgreSQL cannot be asked.
	unavailableDelay = 5 * time.Second
)

// identities knows which orchestrator an id means.
type identities interface {
	Cached(id protocol.OrchestratorID) (identity.Identity, bool)
	Resolve(ctx context.Context, id protocol.OrchestratorID) (identity.Identity, error)
	ResolveMany(ctx context.Context, ids []protocol.OrchestratorID) map[protocol.OrchestratorID]identity.Answer
}

// registrar decides as whom the bearer of a token is let in, where there is a
// database; a nil *registrar lets everybody in as the token says. Its methods
// may be called at the same time.
type registrar struct {
	identities identities
	fallback   Fallback
	metrics    *metrics
	refusals   *refusals // set before Run
	revoker    *revoker  // the same
	logger     *slog.Logger

	mu sync.Mutex
	// unconfirmed are the connections that were admitted on their token alone.
	unconfirmed map[*connection]unconfirmed
}

// unconfirmed is what is known of a connection whose orchestrator has not been
// looked up.
type unconfirmed struct {
	given protocol.OrchestratorID // in the token
	// leaveBy is when it is closed, once it was told to come back; else zero.
	leaveBy time.Time
}

// bearer says as whom somebody is let in.
type bearer struct {
	orchestrator protocol.OrchestratorID
	user         protocol.OrchestratorID // its other id; empty: it has none, or nobody could be asked
	organization string
	// unconfirmed: on the token alone.
	unconfirmed bool
}

func newRegistrar(ids identities, fallback Fallback, m *metrics, logger *slog.Logger) *registrar {
	r := &registrar{
		identities: ids, fallback: fallback, metrics: m, logger: logger, unconfirmed: make(map[*connection]unconfirmed),
	}
	m.watchRegistrar(r)
	return r
}

// remembers is identify, without asking anybody.
func (r *registrar) remembers(token auth.Identity) (bearer, bool) {
	if r == nil {
		return bearer{orchestrator: token.Orchestrator, organization: token.Organization}, true
	}
	found, ok := r.identities.Cached(token.Orchestrator)
	return bearerOf(token, found), ok
}

// identify returns as whom the bearer of a verified token is let in, or an
// *auth.Error that says why not: ReasonUnknownIdentity, or for the time being
// ReasonIdentityUnverified. It may wait for PostgreSQL for some seconds.
func (r *registrar) identify(ctx context.Context, token auth.Identity) (bearer, error) {
	if who, ok := r.remembers(token); ok {
		return who, nil
	}
	found, err := r.identities.Resolve(ctx, token.Orchestrator)
	switch {
	case err == nil:
		return bearerOf(token, found), nil
	case errors.Is(err, identity.ErrUnknown):
		return bearer{}, &auth.Error{Reason: auth.ReasonUnknownIdentity}
	case r.fallback == FallbackToken:
		return bearer{orchestrator: token.Orchestrator, organization: token.Organization, unconfirmed: true}, nil
	}
	return bearer{}, &auth.Error{Reason: auth.ReasonIdentityUnverified}
}

// bearerOf returns whom Neolith knows under a token's id. Its organization is
// Neolith's, or where that has none the token's.
func bearerOf(token auth.Identity, found identity.Identity) bearer {
	return bearer{
		orchestrator: found.Orchestrator, user: found.User,
		organization: cmp.Or(string(found.Organization), token.Organization),
	}
}

// remember notes a connection that was admitted on its token alone, so that it
// is looked up later. It is to be forgotten at its end.
func (r *registrar) remember(c *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unconfirmed[c] = unconfirmed{given: c.orchestrator}
}

func (r *registrar) forget(c *connection) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.unconfirmed, c)
}

// awaits reports whether a connection was admitted on its token alone, and is
// still to be looked up.
func (r *registrar) awaits(c *connection) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, found := r.unconfirmed[c]
	return found
}

func (r *registrar) countUnconfirmed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.unconfirmed)
}

// Run looks up again those who were admitted on their token alone, as soon as
// PostgreSQL answers, until ctx ends.
func (r *registrar) Run(ctx context.Context) error {
	lifecycle.Every(ctx, recheckInterval, func(now time.Time) { r.recheck(ctx, now) })
	return nil
}

func (r *registrar) recheck(ctx context.Context, now time.Time) {
	ids, overdue := r.due(now)
	for _, c := range overdue {
		c.end(protocol.CloseGoingAway, "was told to come back")
	}
	if len(ids) == 0 {
		return
	}
	for id, answer := range r.identities.ResolveMany(ctx, ids) {
		switch {
		case errors.Is(answer.Err, identity.ErrUnknown):
			r.dismiss(id)
		case answer.Err == nil:
			r.confirm(id, answer.Identity, now)
		}
	}
}

// due returns ids to be looked up, and the connections that were told to come
// back and have stayed.
func (r *registrar) due(now time.Time) (ids []protocol.OrchestratorID, overdue []*connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := make(map[protocol.OrchestratorID]bool)
	for c, u := range r.unconfirmed {
		switch {
		case u.leaveBy.IsZero():
			if !seen[u.given] && len(ids) < recheckBatch {
				seen[u.given] = true
				ids = append(ids, u.given)
			}
		case now.After(u.leaveBy):
			overdue = append(overdue, c)
		}
	}
	return ids, overdue
}

// dismiss ends the connections of an orchestrator that does not exist.
func (r *registrar) dismiss(given protocol.OrchestratorID) {
	for _, c := range r.waiting(given) {
		refusal := &auth.Error{Reason: auth.ReasonUnknownIdentity}
		r.refusals.token(refusal.Reason, whoIs(c)...)
		r.logger.Warn("connection ended: admitted while PostgreSQL was away, and its orchestrator does not exist",
			"orchestrator", c.token, "daemon", c.daemon, "session", c.id, "address", c.addr)
		c.dismissed(refusal.Code(), refusal.Error())
	}
}

// confirm lets connections stay that gave the canonical id of their
// orchestrator; others are told to come back, because events and claims are
// under that id. Those are ended whose orchestrator is revoked, or limited, under
// the id that is known only now.
func (r *registrar) confirm(given protocol.OrchestratorID, found identity.Identity, now time.Time) {
	other := found.User
	if given != found.Orchestrator {
		other = found.Orchestrator
	}
	for _, c := range r.waiting(given) {
		c.knownAs(other)
		r.revoker.look(c)
		if given == found.Orchestrator {
			r.forget(c)
			continue
		}
		delay := rand.N(recheckSpread)
		if r.told(c, now.Add(delay+recheckPatience)) {
			c.reconnect("identity", delay)
		}
	}
}

// waiting returns the connections that gave an id and have not been told to
// come back.
func (r *registrar) waiting(given protocol.OrchestratorID) (all []*connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c, u := range r.unconfirmed {
		if u.given == given && u.leaveBy.IsZero() {
			all = append(all, c)
		}
	}
	return all
}

// told notes until when a connection may stay; false if it has ended.
func (r *registrar) told(c *connection, leaveBy time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	u, open := r.unconfirmed[c]
	if open {
		u.leaveBy = leaveBy
		r.unconfirmed[c] = u
	}
	return open
}
