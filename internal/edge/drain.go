package edge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// drainPoll is how often a drain looks whether everybody has gone.
	drainPoll = 50 * time.Millisecond
	// closeReserve of SHUTDOWN_TIMEOUT is kept for what follows the daemons'
	// leaving: cursors, gossip, closing.
	closeReserve = closeTimeout + 2*time.Second
	// stepTimeout bounds each of these: what is said in the gossip, and what is
	// written.
	stepTimeout = 3 * time.Second
)

// drain empties the edge, in this order, all within SHUTDOWN_TIMEOUT:
//
//  1. not ready, upgrades get 503;
//  2. the directory shows that this edge takes nothing new;
//  3. each daemon is asked to reconnect, with delays spread over DRAIN_PERIOD,
//     and is delivered to until it goes;
//  4. the cursors are written;
//  5. the gossip is left, so that routers forget this edge's claims at once;
//  6. who is still there is closed with 1001, and its cursor and the history
//     written;
//  7. what serves the connections stops.
//
// After a step that fails the others are tried all the same.
func (e *Edge) drain(ctx context.Context, n *running) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.cfg.ShutdownTimeout)
	defer cancel()
	e.door.draining.Store(true)
	e.logger.Info("draining", "connections", e.door.count())
	errs := []error{bounded(ctx, stepTimeout, "announce the drain", func(ctx context.Context) error {
		return e.directory.SetDraining(ctx, true)
	})}
	e.sendAway(ctx, n)
	errs = append(errs, bounded(ctx, e.writeTimeout, "write cursors", n.log.cursors.FlushAll))
	if err := bounded(ctx, stepTimeout, "leave the directory", e.directory.Leave); err != nil {
		// Normal where the whole cluster stops; else the others find out as they do
		// when a node dies.
		e.logger.Info("left the gossip without telling everyone", "error", err)
	}
	e.closeAll(ctx)
	errs = append(errs, bounded(ctx, e.writeTimeout, "write cursors", n.log.cursors.FlushAll),
		bounded(ctx, e.writeTimeout, "write the history", e.flushHistory))
	e.stopRunning(n)
	if err := errors.Join(errs...); err != nil {
		// Not worth a failed exit: what was not written costs duplicates.
		e.logger.Warn("drained, but not every step succeeded", "error", err)
	} else {
		e.logger.Info("drained")
	}
	return n.parts.Wait()
}

func bounded(ctx context.Context, limit time.Duration, act string, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := step(ctx); err != nil {
		return fmt.Errorf("%s: %w", act, err)
	}
	return nil
}

// sendAway asks every daemon to reconnect and waits until they have gone, their
// time is over, or a part has failed.
func (e *Edge) sendAway(ctx context.Context, n *running) {
	period := e.cfg.Listen.DrainPeriod
	e.door.sendAway(period)
	// The last one gets its message, waits as long as it was told, and leaves.
	grace := min(period+time.Second, max(0, e.cfg.ShutdownTimeout-closeReserve))
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for e.door.count() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-n.parts.Context().Done():
			return
		case <-ticker.C:
		}
	}
}

// closeAll closes whoever is left, side by side, and waits for their end.
func (e *Edge) closeAll(ctx context.Context) {
	for _, c := range e.door.connections() {
		c.end(protocol.CloseGoingAway, "the edge is shutting down")
	}
	gone := e.door.gone()
	select {
	case <-gone:
		return
	case <-ctx.Done():
	}
	for _, c := range e.door.connections() {
		c.socket.Cut()
	}
	<-gone
}

// stopRunning ends what start has begun.
func (e *Edge) stopRunning(n *running) {
	for _, unsubscribe := range n.unsubscribe {
		unsubscribe()
	}
	n.stopLog()
	n.log.close()
}
