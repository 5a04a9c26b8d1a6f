package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/edge/socket"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// session is what a connection's session has to know.
func (s *services) session(c *connection) session.Config {
	cfg := s.cfg.session(c.token, c.daemon, c.partition)
	cfg.Trace = s.trace
	return cfg
}

// traceLocked passes on what the session says of an event. c.mu is held.
func (c *connection) traceLocked(record trace.Record) {
	for i := range record.Hops {
		if h := &record.Hops[i]; h.Daemon != "" {
			h.Session = string(c.id)
		}
	}
	c.svc.trace.Add(record)
}

// traceEndLocked tells what of the events in hand is not acknowledged because the
// connection ends. c.mu is held.
func (c *connection) traceEndLocked(e socket.Ending, broke bool) {
	if !c.svc.trace.On() {
		return
	}
	now, why := time.Now(), "the connection ended with "+protocol.CloseCode(e.Code).String()
	c.session.Unacknowledged(why, broke, now)
	for _, effect := range c.session.Take() {
		if t, ok := effect.(session.Trace); ok {
			c.traceLocked(t.Record)
		}
	}
	c.sayLocked(trace.Ended, fmt.Sprintf("%d %s", e.Code, e.Reason))
}

// sayLocked tells whoever watches the orchestrator what happens to the connection.
// c.mu is held.
func (c *connection) sayLocked(step trace.Step, detail string) {
	if !c.svc.trace.Watches(c.token) {
		return
	}
	c.svc.trace.Say(c.token, trace.Hop{
		At: time.Now(), Step: step, Daemon: string(c.daemon), Session: string(c.id), Detail: detail,
	})
}

// arrival is how the events of a batch come here, if that may be asked for.
func (in *receiver) arrival(b delivery.Batch, now time.Time) *trace.Arrival {
	if len(b.Events) == 0 || !in.trace.On() {
		return nil
	}
	return &trace.Arrival{At: now, Router: b.Router, Sent: b.Sent}
}

// findEvent says what this edge's connections have of an event now.
func (e *Edge) findEvent(_ context.Context, request []byte) (any, error) {
	var r operation.EventRequest
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	report := operation.EventReport{Connections: []operation.EventConnection{}}
	for _, c := range e.hub.connections(event.TokenOf(protocol.OrchestratorID(r.Orchestrator))) {
		report.Connections = append(report.Connections, c.has(r.Event))
	}
	return report, nil
}

// has says what the connection has of an event.
func (c *connection) has(id string) operation.EventConnection {
	c.mu.Lock()
	defer c.mu.Unlock()
	told := operation.EventConnection{Session: string(c.id), Daemon: string(c.daemon)}
	if c.session == nil || !c.session.Running() {
		return told
	}
	told.Position = c.session.Position().Sequence
	for _, h := range c.session.Find(id) {
		told.Held = append(told.Held, operation.HeldEvent{
			Sequence: h.Sequence, Written: h.Written, InHand: h.InHand, Vain: h.Vain, GivenUp: h.GivenUp,
		})
	}
	return told
}
