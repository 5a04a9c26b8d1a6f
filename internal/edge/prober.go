package edge

import (
	"context"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

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
	peers   peers[probeRequest, probeAnswer]
	hub     *hub
	metrics *metrics
	logger  *slog.Logger
}

func newProber(self string, nc *nats.Conn, h *hub, m *metrics, logger *slog.Logger) *prober {
	p := &prober{hub: h, metrics: m, logger: logger}
	p.peers = peers[probeRequest, probeAnswer]{self: self, nc: nc, subject: delivery.ProbeSubject, answer: p.probe, logger: logger}
	return p
}

const (
	// pingTimeout is how long a connection has to show that it lives.
	pingTimeout = 5 * time.Second
	// probeTimeout also covers the way to another edge, and that its claim
	// disappears from the directory.
	probeTimeout = pingTimeout + 2*time.Second
)

// ask reports whether a connection lives, on whichever edge it is. Where that
// cannot be found out, it is taken to live.
func (p *prober) ask(ctx context.Context, h ring.Holding) probeAnswer {
	answer, err := p.peers.ask(ctx, h.Edge, probeRequest{h.Orchestrator, h.Session})
	if err != nil {
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
		return probeAnswer{Alive: true, Address: c.addr.String()}
	}
	p.metrics.terminations.Of(terminatedSilent).Inc()
	p.logger.Info("half-open connection ended", "orchestrator", r.Orchestrator, "daemon", c.daemon, "session", c.id, "address", c.addr)
	c.end(protocol.CloseSessionTerminated, "does not answer")
	// Its peer will not answer the close frame either.
	c.socket.Cut()
	return probeAnswer{Address: c.addr.String()}
}
