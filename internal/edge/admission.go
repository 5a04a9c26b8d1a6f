package edge

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/edge/conversation"
	"github.com/neolith/daemon-gateway/internal/rescue"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// fightDelay is how long the newcomer waits where two machines seem to use
	// one daemon id.
	fightDelay = 30 * time.Second
	// releasePoll is how often the directory is looked at for a claim to end.
	releasePoll = 20 * time.Millisecond
	// drainingDelay is for daemons that authenticate just as the edge leaves.
	drainingDelay = time.Second
	// fullDelay, and up to as much again, is for daemons that authenticate just as
	// the last seat is taken.
	fullDelay = retryAfter * time.Second
)

// directory is what admission needs of the ring.
type directory interface {
	Holdings(token event.Token) []ring.Holding
	Claim(c ring.Claim)
	Release(session protocol.SessionID)
	Self() ring.Member
}

// admission decides whether an authenticated daemon may stay: that its
// orchestrator exists, the limit of connections over the cluster, and that there
// is one connection of each daemon id. It is told of others' claims by the directory (ring.Watcher).
type admission struct {
	refusals  *refusals
	gate      *gate
	revoker   *revoker
	registrar *registrar // nil: whoever has a token is who it says
	directory directory
	hub       *hub
	prober    *prober
	limit     int
	metrics   *metrics
	panics    *rescue.Notes
	logger    *slog.Logger

	// claiming serialises reading the claims of an orchestrator and adding one.
	claiming [64]sync.Mutex
	seed     maphash.Seed
}

// admit answers the conversation's Admit. It may take as long as PostgreSQL and
// a probe; the connection's reader waits meanwhile.
func (a *admission) admit(c *connection, e *conversation.Admit) {
	// Before PostgreSQL is asked: whose token is good must not have to go for
	// those who have none while that takes its time.
	if !c.svc.seat(c) {
		a.metrics.refused.Of(refusedFull).Inc()
		c.diverted("this edge is full", fullDelay+rand.N(fullDelay), protocol.CloseGoingAway)
		return
	}
	who, err := a.identify(c, e.Identity)
	if err == nil {
		err = a.gate.admits(e.Identity, who, c.addr)
	}
	if err != nil {
		a.turnAway(c, err)
		return
	}
	c.orchestrator, c.user, c.organization = who.orchestrator, who.user, who.organization
	c.token = event.TokenOf(c.orchestrator)
	c.daemon, c.named = e.Auth.DaemonID, e.Identity.Daemon == e.Auth.DaemonID
	c.partition = a.hub.partition(c.token)
	if e.Auth.Resume != nil {
		c.resume = e.Auth.Resume.Position
	}
	if c.svc.draining() {
		c.diverted("draining", drainingDelay, protocol.CloseGoingAway)
		return
	}
	if a.fighting(c) {
		return
	}
	if !a.claim(c) {
		// Half-open sockets must not lock an orchestrator out.
		a.probeOthers(c)
		if !a.claim(c) {
			a.refusals.token(maxConnections, whoIs(c)...)
			c.refused(protocol.AuthMaxConnections, "the orchestrator has as many connections as it may have")
			return
		}
	}
	if who.unconfirmed {
		a.registrar.remember(c)
	}
	a.revoker.look(c) // what was revoked meanwhile
	a.enforce(c.token)
	if c.svc.draining() {
		c.reconnect("draining", drainingDelay)
	}
}

// confirm answers the conversation's Confirm: whoever extends a session for ever
// must not outlive its orchestrator. It may take as long as PostgreSQL.
func (a *admission) confirm(c *connection, e *conversation.Confirm) {
	who, err := a.identify(c, e.Identity)
	if err == nil {
		err = a.gate.admits(e.Identity, who, c.addr)
	}
	switch {
	case err == nil && !who.unconfirmed && who.orchestrator != c.orchestrator && !a.registrar.awaits(c):
		err = &auth.Error{Reason: auth.ReasonOtherSession}
	}
	if err != nil {
		c.unconfirmed(err, e.InReplyTo)
		return
	}
	c.confirmed(e.Identity)
	a.revoker.look(c) // what was revoked meanwhile
}

// identify finds the daemon's orchestrator. It waits no longer than the
// connection lasts.
func (a *admission) identify(c *connection, token auth.Identity) (bearer, error) {
	if who, ok := a.registrar.remembers(token); ok {
		return who, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-c.socket.Ended():
			cancel()
		case <-ctx.Done():
		}
	}()
	return a.registrar.identify(ctx, token)
}

// whoIs is bearerLocked for those who do not hold the lock.
func whoIs(c *connection) []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bearerLocked()
}

// turnAway answers a daemon whose orchestrator does not exist, or is not known
// to exist while nobody can be asked.
func (a *admission) turnAway(c *connection, err error) {
	var refusal *auth.Error
	if !errors.As(err, &refusal) {
		refusal = &auth.Error{Reason: auth.ReasonIdentityUnverified}
	}
	a.refusals.token(refusal.Reason, whoIs(c)...)
	if refusal.Passes() {
		c.diverted("identity unavailable", unavailableDelay+rand.N(unavailableDelay), protocol.CloseGoingAway)
		return
	}
	c.refused(refusal.Code(), refusal.Error())
}

// claim enters the connection if there is room for it, and answers Admitted.
func (a *admission) claim(c *connection) bool {
	lock := &a.claiming[maphash.String(a.seed, string(c.token))%uint64(len(a.claiming))]
	lock.Lock()
	defer lock.Unlock()
	holdings := a.directory.Holdings(c.token)
	rest, _ := others(holdings, c.daemon)
	if len(rest) >= a.limit {
		return false
	}
	claim := ring.Claim{Orchestrator: c.token, Session: c.id, Daemon: c.daemon, Generation: nextGeneration(holdings)}
	// Into the hub first: as soon as a router knows the claim, events come.
	c.begin(a.hub.add(c))
	a.directory.Claim(claim)
	return true
}

// release takes the claim back.
func (a *admission) release(c *connection) {
	a.directory.Release(c.id)
	a.registrar.forget(c)
}

// fighting reports whether the newcomer takes over too often, and then sends
// it away for a while: two machines with one daemon id would otherwise throw
// each other out for ever.
func (a *admission) fighting(c *connection) bool {
	_, same := others(a.directory.Holdings(c.token), c.daemon)
	if same == nil {
		return false
	}
	if !a.hub.takeover(c.token, c.daemon, time.Now()) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	older := a.prober.ask(ctx, *same)
	if !older.Alive {
		return false
	}
	a.metrics.terminations.Of(terminatedFight).Inc()
	a.logger.Error("one daemon id is used from two places, the newcomer is sent away",
		"orchestrator", c.token, "daemon", c.daemon, "newcomer", c.addr, "holder", older.Address, "edge", same.Edge)
	c.diverted("this daemon id is in use elsewhere", fightDelay, protocol.CloseSessionTerminated)
	return true
}

// probeOthers finds out which of the connections that keep the newcomer out are
// half-open, side by side. Their edges end those that do not answer.
func (a *admission) probeOthers(c *connection) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	holdings := a.directory.Holdings(c.token)
	rest, _ := others(holdings, c.daemon)
	var probes sync.WaitGroup
	for _, h := range rest {
		probes.Go(func() {
			defer a.rescued(c)
			if a.prober.ask(ctx, h).Alive {
				return
			}
			// Its edge takes the claim back, which the directory then shows.
			a.awaitRelease(ctx, c.token, h)
		})
	}
	probes.Wait()
}

// rescued keeps a panic in what is done for one newcomer from ending the edge. It is
// deferred.
func (a *admission) rescued(c *connection) {
	if value := recover(); value != nil {
		a.panics.Panicked(partAdmission, value, whoIs(c)...)
	}
}

// awaitRelease waits until the directory no longer shows a connection.
func (a *admission) awaitRelease(ctx context.Context, token event.Token, h ring.Holding) {
	ticker := time.NewTicker(releasePoll)
	defer ticker.Stop()
	for a.holds(token, h.Session) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (a *admission) holds(token event.Token, id protocol.SessionID) bool {
	for _, h := range a.directory.Holdings(token) {
		if h.Session == id {
			return true
		}
	}
	return false
}

// enforce ends those of this edge's connections that the cluster's claims leave
// no room for.
func (a *admission) enforce(token event.Token) {
	replaced, over := surplus(a.directory.Holdings(token), a.limit)
	for _, h := range replaced {
		a.end(h, terminatedTakeover, replacedReason)
	}
	for _, h := range over {
		a.end(h, terminatedLimit, "over the orchestrator's connection limit")
	}
}

func (a *admission) end(h ring.Holding, why terminated, reason string) {
	if h.Edge != a.directory.Self().Name {
		return
	}
	if c := a.hub.find(h.Orchestrator, h.Session); c != nil {
		a.terminate(c, why, reason)
	}
}

func (a *admission) terminate(c *connection, why terminated, reason string) {
	a.metrics.terminations.Of(why).Inc()
	a.logger.Info("connection ended for another's sake", "orchestrator", c.token, "daemon", c.daemon,
		"session", c.id, "address", c.addr, "reason", string(why))
	c.end(protocol.CloseSessionTerminated, reason)
}

const replacedReason = "replaced by a newer connection of this daemon"

// superseded ends a connection when the cursor says that a newer one of the
// daemon has begun, wherever that is and whatever the directory shows.
func (a *admission) superseded(c *connection) { a.terminate(c, terminatedTakeover, replacedReason) }

// replaced reports whether the directory shows a newer connection of the daemon.
func (a *admission) replaced(c *connection) bool {
	_, newest := others(a.directory.Holdings(c.token), c.daemon)
	return newest != nil && newest.Session != c.id
}

// ClaimsAdded implements ring.Watcher.
func (a *admission) ClaimsAdded(claims []ring.Holding) {
	for _, h := range claims {
		if len(a.hub.connections(h.Orchestrator)) > 0 {
			a.enforce(h.Orchestrator)
		}
	}
}

// ClaimsRemoved implements ring.Watcher: fewer claims leave more room.
func (a *admission) ClaimsRemoved([]ring.Holding) {}

// MembersChanged implements ring.Watcher.
func (a *admission) MembersChanged() {}
