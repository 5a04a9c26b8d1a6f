package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// newOperations returns what answers operators.
func (e *Edge) newOperations(shown admin.Node) *operation.Service {
	s := operation.NewService(e.nats, operation.Node{
		Member: operation.Member{Tier: operation.Edge, Node: e.cfg.Node()},
		Known:  func() []operation.Member { return operation.Known(e.directory) },
		Shown:  shown,
		Holds:  func() map[string]int { return map[string]int{"connections": e.door.count()} },
	}, e.base)
	s.Handle(operation.Connections, e.listConnections)
	s.Handle(operation.Disconnect, e.disconnect)
	s.Handle(operation.Drain, e.drainAsked)
	s.Handle(operation.Undrain, e.undrainAsked)
	s.Handle(operation.Balance, e.balanceAsked)
	s.HandleOnce(operation.Note, e.note)
	s.Handle(operation.Event, e.findEvent)
	s.HandleOnce(operation.Sessions, e.lastSessions)
	s.HandleTrace(e.trace)
	return s
}

// shown is what the admin port shows of the edge.
func (e *Edge) shown(checks []admin.Check) (admin.Node, error) {
	inForce, err := settings.InForce(&e.cfg)
	return admin.Node{
		Tier: string(operation.Edge), Name: e.cfg.Node(), Registry: e.registry, Checks: checks, Settings: inForce,
		Log: e.book, Audit: e.audit, Profiles: e.cfg.Admin.EnablePprof,
		Pages: []admin.Page{operation.MembersPage(e.directory), {
			Path:  "/connections",
			About: "connections, the first 100; ?orchestrator=, daemon=, session=, address=, sort= and limit= choose others",
			Show: func(query url.Values) (any, error) {
				r, err := operation.RequestOf(query)
				if err != nil {
					return nil, err
				}
				return e.selectConnections(r)
			},
		}},
	}, err
}

// sessionsWait is how long the database may take for the last sessions: an operator
// waits, and so do others who ask.
const sessionsWait = 3 * time.Second

func (e *Edge) lastSessions(ctx context.Context, request []byte) (any, error) {
	var r operation.SessionsRequest
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	if e.history == nil {
		return operation.SessionsReport{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, sessionsWait)
	defer cancel()
	last, err := e.history.Last(ctx, r.Orchestrator, min(max(r.Limit, 1), operation.MaxSessions))
	report := operation.SessionsReport{Kept: true}
	for _, s := range last {
		report.Sessions = append(report.Sessions, operation.PastSession(s))
	}
	return report, err
}

func (e *Edge) listConnections(_ context.Context, request []byte) (any, error) {
	var r operation.ConnectionsRequest
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	return e.selectConnections(r)
}

func (e *Edge) selectConnections(r operation.ConnectionsRequest) (operation.ConnectionsReport, error) {
	open := e.door.connections()
	all := make([]operation.Connection, len(open))
	for i, c := range open {
		all[i] = c.describe()
	}
	return r.Select(e.cfg.Node(), all)
}

// describe says what an operator may know of the connection.
func (c *connection) describe() operation.Connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	told := operation.Connection{Session: string(c.id), Address: c.addr, State: string(c.state)}
	if c.session == nil {
		return told
	}
	token, _ := c.talk.Bearer()
	told.Orchestrator, told.Daemon = string(c.orchestrator), string(c.daemon)
	told.Since, told.TokenExpires, told.Unsettled = c.admittedAt, token.ExpiresAt, c.session.Unsettled()
	for _, s := range c.session.Subscriptions() {
		if len(told.Subscriptions) == operation.MaxSubscriptions {
			break
		}
		told.Subscriptions = append(told.Subscriptions, operation.Subscribed(s))
	}
	if c.session.Running() {
		told.Position = c.session.Position().String()
	}
	return told
}
