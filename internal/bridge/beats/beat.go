package beats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// timeFormat is that of Date.toISOString: texts of it compare as the times do.
const timeFormat = "2006-01-02T15:04:05.000Z"

// beat is a heartbeat as it is written.
type beat struct {
	orchestrator protocol.OrchestratorID
	daemon       protocol.DaemonID
	organization string // empty: there is nobody to be told
	receivedAt   time.Time
	opened       bool   // the daemon has only connected
	record       []byte // what the key holds
	metrics      []byte // what the list holds; nil where there are none
	route        []byte // what Neolith's message router reads
	received     string // receivedAt as it is written
	notice       []byte // what is published

	heardAt time.Time // by this node's clock
	tried   bool      // it may have been written; owned by Run
}

// record is JSON that Neolith reads. Status and metrics are always there, since
// daemons of Neolith always send them.
type record struct {
	Orchestrator protocol.OrchestratorID `json:"orchestratorId"`
	Daemon       protocol.DaemonID       `json:"daemonId"`
	Session      protocol.SessionID      `json:"sessionId"`
	Status       protocol.Status         `json:"status"`
	Metrics      json.RawMessage         `json:"metrics"`
	ReceivedAt   string                  `json:"receivedAt"`
	Organization string                  `json:"organizationId,omitempty"`
}

// route is the JSON by which Neolith's message router knows that a daemon is
// connected. Without it, it puts messages into a queue and publishes nothing. Its
// versions differ in what they call the two times.
type route struct {
	Orchestrator  protocol.OrchestratorID `json:"orchestratorId"`
	Daemon        protocol.DaemonID       `json:"daemonId"`
	Session       protocol.SessionID      `json:"sessionId"`
	Status        string                  `json:"status"`
	ConnectedAt   string                  `json:"connectedAt"`
	CreatedAt     string                  `json:"createdAt"`
	LastHeartbeat string                  `json:"lastHeartbeatAt"`
	LastActive    string                  `json:"lastActiveAt"`
}

// routeActive is the status of the session and not of the daemon: with any other,
// one that is busy would count as away.
const routeActive = "active"

// notice is what Neolith hears.
type notice struct {
	Type         string                  `json:"type"`
	Orchestrator protocol.OrchestratorID `json:"orchestratorId"`
	Status       protocol.Status         `json:"status"`
	ReceivedAt   string                  `json:"receivedAt"`
}

func newBeat(h heartbeat.Beat, now time.Time) (*beat, error) {
	b := &beat{
		orchestrator: h.Orchestrator, daemon: h.Daemon, organization: h.Organization, receivedAt: h.ReceivedAt,
		opened: h.Opened, heardAt: now, received: h.ReceivedAt.UTC().Format(timeFormat),
	}
	if h.Status == "" {
		h.Status = protocol.StatusActive // it is there, and has not said otherwise
	}
	received := b.received
	connected := received
	if !h.ConnectedAt.IsZero() {
		connected = h.ConnectedAt.UTC().Format(timeFormat)
	}
	if len(h.Metrics) > 0 {
		b.metrics = withTimestamp(h.Metrics, received)
	} else {
		h.Metrics = json.RawMessage(`{}`)
	}
	var err error
	b.route, err = json.Marshal(route{h.Orchestrator, h.Daemon, h.Session, routeActive, connected, connected, received, received})
	if err != nil {
		return nil, fmt.Errorf("encode a connection: %w", err)
	}
	b.record, err = json.Marshal(record{h.Orchestrator, h.Daemon, h.Session, h.Status, h.Metrics, received, h.Organization})
	if err != nil {
		return nil, fmt.Errorf("encode a heartbeat: %w", err)
	}
	b.notice, err = json.Marshal(notice{"heartbeat", h.Orchestrator, h.Status, received})
	if err != nil {
		return nil, fmt.Errorf("encode a heartbeat's notice: %w", err)
	}
	return b, nil
}

// withTimestamp is an element of Neolith's list: the metrics themselves, with a
// time beside their fields. It comes last, where it counts though the daemon may
// report one of its own.
func withTimestamp(metrics json.RawMessage, received string) []byte {
	open := bytes.TrimSpace(metrics)
	open = open[:len(open)-1]
	separator := ","
	if len(bytes.TrimSpace(open)) == 1 { // nothing but the brace
		separator = ""
	}
	return fmt.Appendf(nil, `%s%s"timestamp":"%s"}`, open, separator, received)
}

func (b *beat) routeKey() string { return "routing:session:" + string(b.orchestrator) }

// The keys of Neolith's presence service: a hash that stays, and one that says
// whether it holds.
func (b *beat) presenceKey() string      { return "presence:vp:" + string(b.orchestrator) }
func (b *beat) presenceAliveKey() string { return "presence:heartbeat:vp:" + string(b.orchestrator) }

func (b *beat) key() string     { return "daemon:heartbeat:" + string(b.orchestrator) }
func (b *beat) list() string    { return "daemon:metrics:" + string(b.orchestrator) }
func (b *beat) channel() string { return "daemon:heartbeats:" + b.organization }

// stale reports whether the heartbeat says nothing any more.
func (b *beat) stale(now time.Time) bool { return b.left(now) <= 0 }

// left is for how long it still says something.
func (b *beat) left(now time.Time) time.Duration { return heartbeat.Lifetime - now.Sub(b.heardAt) }

// bytes is about what it holds.
func (b *beat) bytes() int {
	return len(b.record) + len(b.metrics) + len(b.route) + len(b.notice) + 300
}

// supersededBy reports whether what the key holds is not older.
func (b *beat) supersededBy(text []byte) bool {
	var held struct {
		ReceivedAt time.Time `json:"receivedAt"`
	}
	return json.Unmarshal(text, &held) == nil && !held.ReceivedAt.Before(b.receivedAt)
}
