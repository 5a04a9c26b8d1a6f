package edge

import (
	"context"
	"log/slog"

	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// reloadHint says that another edge has written the cursors of an orchestrator,
// and that they now say something different of the connections here.
type reloadHint struct {
	Orchestrator event.Token `json:"orchestrator"`
}

// reloadAnswer says that they were read. What came of it is in the cursors.
type reloadAnswer struct{}

// reloader carries such hints. One that is lost is made up for by the next
// write of the connection that it concerned.
type reloader struct {
	peers   peers[reloadHint, reloadAnswer]
	cursors *cursor.Store // set before anything is told or heard
	logger  *slog.Logger
}

func newReloader(self string, nc *nats.Conn, logger *slog.Logger) *reloader {
	r := &reloader{logger: logger}
	r.peers = peers[reloadHint, reloadAnswer]{self: self, nc: nc, subject: delivery.CursorSubject, answer: r.reload, logger: logger}
	return r
}

// tell hints to another edge, and returns at once.
func (r *reloader) tell(edge string, token event.Token) {
	if err := r.peers.tell(edge, reloadHint{token}); err != nil {
		r.logger.Debug("edge not told that cursors have changed", "edge", edge, "orchestrator", token, "error", err)
	}
}

func (r *reloader) reload(ctx context.Context, h reloadHint) reloadAnswer {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	if err := r.cursors.Reload(ctx, h.Orchestrator); err != nil {
		r.logger.Warn("cursors changed by another edge are not read, the next write finds out", "orchestrator", h.Orchestrator, "error", err)
	}
	return reloadAnswer{}
}
