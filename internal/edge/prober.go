package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// probeSubject is where an edge is asked whether one of its connections lives.
func probeSubject(edge string) string {
	return "daemon.edge." + string(event.TokenOf(edge)) + ".probe"
}

// probeRequest names a connection.
type probeRequest struct {
	Orchestrator event.Token        `json:"orchestrator"`
	Session      protocol.SessionID `json:"session"`
}

// probeAnswer says whether it lives. An edge that does not have the connection
// says no.
type probeAnswer struct {
	Alive   bool   `json:"alive"`
	Address string `json:"address,omitempty"`
}

// prober finds half-open connections: those that look connected and whose
// daemon does not answer any more.
type prober struct {
	self    string
	nc      *nats.Conn
	hub     *hub
	metrics *metrics
	logger  *slog.Logger
	answers *pool
}

const (
	// pingTimeout is how long a connection has to show that it lives.
	pingTimeout = 5 * time.Second
	// probeTimeout also covers the way to another edge, and that its claim
	// disappears from the directory.
	probeTimeout = pingTimeout + 2*time.Second
	// concurrentProbes bounds the answers to other edges.
	concurrentProbes = 256
)

// ask reports whether a connection lives, on whichever edge it is. Where that
// cannot be found out, it is taken to live.
func (p *prober) ask(ctx context.Context, h ring.Holding) probeAnswer {
	if h.Edge == p.self {
		return p.probe(ctx, probeRequest{h.Orchestrator, h.Session})
	}
	data, err := json.Marshal(probeRequest{h.Orchestrator, h.Session})
	if err != nil {
		return probeAnswer{Alive: true}
	}
	msg, err := p.nc.RequestWithContext(ctx, probeSubject(h.Edge), data)
	if errors.Is(err, nats.ErrNoResponders) {
		return probeAnswer{} // the edge is gone, and its connections with it
	}
	var answer probeAnswer
	if err != nil || json.Unmarshal(msg.Data, &answer) != nil {
		p.logger.Warn("connection of another edge not probed", "edge", h.Edge, "session", h.Session, "error", err)
		return probeAnswer{Alive: true}
	}
	return answer
}

// probe pings a connection of this edge, and ends it if it does not answer.
func (p *prober) probe(ctx context.Context, r probeRequest) probeAnswer {
	c := p.hub.find(r.Orchestrator, r.Session)
	if c == nil {
		return probeAnswer{}
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := c.socket.Ping(ctx); err == nil {
		return probeAnswer{Alive: true, Address: c.addr}
	}
	p.metrics.terminations.Of(terminatedSilent).Inc()
	p.logger.Info("half-open connection ended", "orchestrator", r.Orchestrator, "daemon", c.daemon, "session", c.id, "address", c.addr)
	c.end(protocol.CloseSessionTerminated, "does not answer")
	// Its peer will not answer the close frame either.
	c.socket.Cut()
	return probeAnswer{Address: c.addr}
}

// serve answers other edges until stop is called.
func (p *prober) serve() (stop func(), err error) {
	sub, err := p.nc.Subscribe(probeSubject(p.self), func(m *nats.Msg) {
		p.answers.submit(func(ctx context.Context) { p.answer(ctx, m) })
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to probes: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // the connection may be gone already
}

func (p *prober) answer(ctx context.Context, m *nats.Msg) {
	var r probeRequest
	err := json.Unmarshal(m.Data, &r)
	if err == nil {
		var data []byte
		if data, err = json.Marshal(p.probe(ctx, r)); err == nil {
			err = m.Respond(data)
		}
	}
	if err != nil {
		p.logger.Warn("probe not answered", "session", r.Session, "error", err)
	}
}
