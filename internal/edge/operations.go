package edge

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/operation"
)

// newOperations returns what answers operators.
func (e *Edge) newOperations(checks []admin.Check) *operation.Service {
	s := operation.NewService(e.nats, operation.Node{
		Member: operation.Member{Tier: operation.Edge, Node: e.cfg.Node()},
		Known:  func() []operation.Member { return operation.Known(e.directory) },
		Checks: checks,
		Holds:  func() map[string]int { return map[string]int{"connections": e.door.count()} },
	}, e.base)
	s.Handle(operation.Connections, e.listConnections)
	s.Handle(operation.Disconnect, e.disconnect)
	s.Handle(operation.Drain, e.drainAsked)
	s.Handle(operation.Undrain, e.undrainAsked)
	s.HandleOnce(operation.Note, e.note)
	return s
}

func (e *Edge) listConnections(_ context.Context, request []byte) (any, error) {
	var r operation.ConnectionsRequest
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
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
