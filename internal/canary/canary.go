// Package canary is what edges and bridges say to each other so that the whole
// path is tried all the time: "everything is up and nothing is delivered" is
// the failure that no part notices of itself.
//
//	edge ──call (NATS)──▶ every bridge ──PUBLISH──▶ Redis, a channel of the bridge's own
//	  ▲                                                │ heard like any event
//	  └── batch ── router ◀── event log ◀── bridge ◀───┘
//
// Each edge claims a pseudo-orchestrator in the directory, so routers forward
// to it as to any other. It is the edge that calls, every Interval: bridges
// need not know which edges there are, and the time there and back is measured
// by one clock.
//
// A canary is no user's event: it needs no ack, is never repeated or put into
// the dead letters, reaches no daemon, moves no cursor and is in no metric but
// its own. Nothing depends on its arrival, readiness least of all.
package canary

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/neolith/daemon-gateway/internal/quote"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// Interval is the time between two calls of an edge.
	Interval = 10 * time.Second
	// Subject is where edges call on NATS, and every bridge listens.
	Subject = "daemon.canary"
	// EventType is the type of the events.
	EventType protocol.EventType = "gateway.canary"

	channelPrefix = "daemon:canary:"
)

// Call is what an edge says: publish a canary for this orchestrator.
type Call struct {
	Orchestrator protocol.OrchestratorID `json:"orchestrator"`
	// Uptime is for how long the edge had been running; only the edge
	// interprets it.
	Uptime time.Duration `json:"uptime"`
}

// Orchestrator is the pseudo-orchestrator of an edge, given by its member name:
// a reserved one. The name is used once, so what is left of an earlier run
// reaches nobody.
func Orchestrator(edge string) protocol.OrchestratorID {
	// The end of a name is what tells it from others.
	room := protocol.MaxIDBytes - len(protocol.ReservedPrefix)
	return protocol.OrchestratorID(protocol.ReservedPrefix + strings.ToValidUTF8(edge[max(0, len(edge)-room):], ""))
}

// Channel is the Redis channel of a bridge's canaries, given by its node name.
// It hears only its own: what another bridge hears proves nothing about it. And
// it is none of Neolith's, whose subscribers are not to see canaries.
func Channel(bridge string) string { return channelPrefix + string(event.TokenOf(bridge)) }

// IsChannel reports whether a Redis channel is that of a bridge's canaries.
func IsChannel(name string) bool { return strings.HasPrefix(name, channelPrefix) }

// ReadCall reads a call; the error says why it is not to be followed.
func ReadCall(data []byte) (Call, error) {
	var c Call
	if err := json.Unmarshal(data, &c); err != nil {
		return Call{}, fmt.Errorf("read a canary's call: %w", err)
	}
	if !c.Orchestrator.Reserved() || c.Orchestrator.Validate() != nil {
		return Call{}, errors.New("a canary's call names an orchestrator that is not reserved")
	}
	return c, nil
}

// Event returns the JSON of an event that answers the call.
func (c Call) Event() ([]byte, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("write a canary: %w", err)
	}
	return event.Event{
		ID: uuid.NewString(), Type: EventType, OrchestratorID: c.Orchestrator, Payload: payload,
	}.MarshalJSON()
}

// ReadEvent returns the call that an event answers.
func ReadEvent(body []byte) (Call, error) {
	e, err := event.Parse(body, event.DefaultMaxBytes)
	if err != nil {
		return Call{}, err
	}
	if e.Type != EventType {
		return Call{}, fmt.Errorf("an event of type %q is not a canary", quote.Cut(string(e.Type)))
	}
	c, err := ReadCall(e.Payload)
	if err == nil && c.Orchestrator != e.OrchestratorID {
		return Call{}, fmt.Errorf("a canary for %q is addressed to %q", quote.Cut(string(c.Orchestrator)), quote.Cut(string(e.OrchestratorID)))
	}
	return c, err
}
