package router

import (
	"context"
	"net/url"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// newOperations returns what answers operators.
func (r *Router) newOperations(shown admin.Node) *operation.Service {
	s := operation.NewService(r.conn, operation.Node{
		Member: operation.Member{Tier: operation.Router, Node: r.cfg.Node()},
		Known:  func() []operation.Member { return operation.Known(r.ring) },
		Shown:  shown,
		Holds:  func() map[string]int { return map[string]int{"partitions": len(r.placement.all())} },
	}, r.base)
	s.Handle(operation.Partitions, func(context.Context, []byte) (any, error) {
		return operation.PartitionsReport{Count: r.cfg.Log.Partitions, Served: r.placement.report()}, nil
	})
	s.HandleTrace(r.trace)
	return s
}

// shown is what the admin port shows of the router.
func (r *Router) shown() (admin.Node, error) {
	inForce, err := settings.InForce(&r.cfg)
	return admin.Node{
		Tier: string(operation.Router), Name: r.cfg.Node(), Registry: r.registry, Checks: r.checks(), Settings: inForce,
		Log: r.book, Audit: r.audit, Profiles: r.cfg.Admin.EnablePprof,
		Pages: []admin.Page{operation.MembersPage(r.ring), {
			Path: "/partitions", About: "partitions: to whom each belongs as this router sees it, and of those that it serves how far it has come",
			Show: func(url.Values) (any, error) { return r.placement.overview(r.cfg.Log.Partitions), nil },
		}},
	}, err
}

// placed is a partition with the router that it belongs to.
type placed struct {
	ID    int    `json:"partition"`
	Owner string `json:"owner"`
	// Here is how it stands, where this router serves it.
	Here *operation.ServedPartition `json:"here,omitempty"`
}

// overview says of all partitions where they belong.
func (l *placement) overview(count int) []placed {
	nodes := map[string]string{}
	for _, m := range l.directory.Members(ring.TierRouter) {
		nodes[m.Name] = m.Node
	}
	candidates := l.candidates()
	all := make([]placed, count)
	for i := range all {
		all[i] = placed{ID: i, Owner: nodes[ownerOf(event.Partition(i), candidates)]}
	}
	for _, served := range l.report() {
		all[served.ID].Here = &served
	}
	return all
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
