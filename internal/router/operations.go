package router

import (
	"context"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/operation"
)

// newOperations returns what answers operators.
func (r *Router) newOperations(checks []admin.Check) *operation.Service {
	s := operation.NewService(r.conn, operation.Node{
		Member: operation.Member{Tier: operation.Router, Node: r.cfg.Node()},
		Known:  func() []operation.Member { return operation.Known(r.ring) },
		Checks: checks,
		Holds:  func() map[string]int { return map[string]int{"partitions": len(r.placement.all())} },
	}, r.base)
	s.Handle(operation.Partitions, func(context.Context, []byte) (any, error) {
		return operation.PartitionsReport{Count: r.cfg.Log.Partitions, Served: r.placement.report()}, nil
	})
	return s
}

// report says of each partition that is served here how it is.
func (l *placement) report() []operation.ServedPartition {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]operation.ServedPartition, 0, len(l.partitions))
	for _, p := range l.partitions {
		all = append(all, p.report())
	}
	return all
}

// report is called with the placement's mu held.
func (p *partition) report() operation.ServedPartition {
	o := operation.ServedPartition{ID: int(p.id), Ready: true, Leaving: !p.leaveAt.IsZero()}
	if err := p.ready(); err != nil {
		o.Ready, o.Problem = false, err.Error()
	}
	r := p.current.Load()
	if r == nil {
		return o
	}
	// The position moves on while the log is only looked at every few seconds.
	o.Position = r.position.Load()
	o.Epoch, o.Last, o.Refused = string(r.epoch), max(r.last.Load(), o.Position), int(r.refused.Load())
	o.Lag = o.Last - o.Position
	return o
}
