package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// heartbeats connects daemons that do nothing but send a heartbeat each second,
// and measures what one costs on its way from the edge to Redis.
func heartbeats(ctx context.Context, b *bench, o options, t *table) error {
	f, err := startFleet(ctx, o.beating, b.Edges, func(protocol.Event) {})
	if err != nil {
		return err
	}
	defer f.stop()
	before, err := b.cpu(ctx)
	if err != nil {
		return err
	}
	writtenBefore, err := written(ctx, b.Bridges)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(o.duration):
	}
	after, err := b.cpu(ctx)
	if err != nil {
		return err
	}
	count, err := written(ctx, b.Bridges)
	if err != nil {
		return err
	}
	if count -= writtenBefore; count == 0 {
		return errors.New("no heartbeat has come to Redis")
	}
	each := func(tier string) float64 { return (after[tier] - before[tier]) / count * 1e6 }
	t.row(fmt.Sprintf("heartbeats of %d daemons, one a second each", o.beating), "%.0f a second written to Redis", count/o.duration.Seconds())
	t.row("CPU a heartbeat in that run", "bridges %.0f µs, routers %.0f µs, edges %.0f µs", each("bridges"), each("routers"), each("edges"))
	return nil
}

// written is how many heartbeats the bridges have written to Redis.
func written(ctx context.Context, bridges []*cluster.Node) (sum float64, err error) {
	for _, n := range bridges {
		v, err := n.Metric(ctx, "gateway_bridge_heartbeats_total", `outcome="written"`)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}
