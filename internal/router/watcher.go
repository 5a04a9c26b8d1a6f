package router

import (
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// watcher passes the directory's news on to the lanes. Its methods are called
// by one goroutine and may wait for a lane's turn.
type watcher struct {
	placement  *placement
	members    func(ring.Tier) []ring.Member
	partitions int

	edges map[string]bool // the edges that lived at the last change
}

// ClaimsAdded tells each claim to the lane of its partition.
func (w *watcher) ClaimsAdded(claims []ring.Holding) {
	byPartition := make(map[event.Partition][]ring.Holding)
	for _, c := range claims {
		p := event.PartitionOf(c.Orchestrator, w.partitions)
		byPartition[p] = append(byPartition[p], c)
	}
	for p, added := range byPartition {
		w.placement.tell(p, func(l *lane.Lane) {
			for _, c := range added {
				l.ClaimAdded(c.Orchestrator, c.Edge)
			}
		})
	}
}

// ClaimsRemoved needs no answer: a lane looks up who holds an orchestrator
// whenever it sends.
func (w *watcher) ClaimsRemoved([]ring.Holding) {}

// MembersChanged places the partitions again and tells the lanes which edges
// are gone.
func (w *watcher) MembersChanged() {
	w.placement.look()
	now := make(map[string]bool)
	for _, m := range w.members(ring.TierEdge) {
		now[m.Name] = true
	}
	for edge := range w.edges {
		if !now[edge] {
			for p := range event.Partition(w.partitions) {
				w.placement.tell(p, func(l *lane.Lane) { l.EdgeGone(edge) })
			}
		}
	}
	w.edges = now
}
