package edge

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// caller calls for this edge's canaries and receives them, beside the hub: a
// connection would have a session, a cursor and a place in the metrics.
type caller struct {
	nc           *nats.Conn
	directory    directory
	interval     time.Duration
	orchestrator protocol.OrchestratorID
	token        event.Token
	began        time.Time
	metrics      *metrics
	logger       *slog.Logger

	// Owned by the receiver's worker of the token's partition.
	epoch eventlog.Epoch
	last  uint64 // the newest sequence that arrived
}

func newCaller(nc *nats.Conn, d directory, interval time.Duration, m *metrics, logger *slog.Logger) *caller {
	id := canary.Orchestrator(d.Self().Name)
	return &caller{
		nc: nc, directory: d, interval: interval, orchestrator: id, token: event.TokenOf(id), began: time.Now(),
		metrics: m, logger: logger,
	}
}

// Run claims the pseudo-orchestrator and calls until ctx ends. The claim ends
// with the membership.
func (c *caller) Run(ctx context.Context) error {
	c.directory.Claim(ring.Claim{
		Orchestrator: c.token, Session: protocol.SessionID(uuid.NewString()), Daemon: "canary", Generation: 1,
	})
	// Jittered, so that the edges of a cluster do not call in step.
	for wait := rand.N(c.interval); ; wait = c.interval {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if err := c.call(time.Since(c.began)); err != nil {
			c.logger.Debug("canary not called for", "error", err)
		}
	}
}

func (c *caller) call(uptime time.Duration) error {
	if !c.nc.IsConnected() {
		return nats.ErrDisconnected // the client would keep the calls, and make them all at once
	}
	data, err := json.Marshal(canary.Call{Orchestrator: c.orchestrator, Uptime: uptime})
	if err != nil {
		return err
	}
	return c.nc.Publish(canary.Subject, data)
}

// forwarded takes what is addressed to the canary, and reports whether it was.
// Batches come again, and from two routers: only what is newer has arrived.
func (c *caller) forwarded(epoch eventlog.Epoch, f delivery.Forwarded, now time.Time) bool {
	if f.Token != c.token {
		return false
	}
	call, err := canary.ReadEvent(f.Body)
	if err != nil || epoch == c.epoch && f.Sequence <= c.last {
		return true
	}
	c.epoch, c.last = epoch, f.Sequence
	c.metrics.canaryReceived.Set(float64(now.UnixMilli()) / 1e3)
	c.metrics.canarySeconds.Observe(max(0, now.Sub(c.began)-call.Uptime).Seconds())
	return true
}
