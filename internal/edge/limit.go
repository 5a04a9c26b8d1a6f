package edge

import (
	"cmp"
	"slices"

	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// older orders the connections of one orchestrator: by generation, not by
// clock, and by session where two edges gave out the same one at a time. Every
// edge that sees the same claims orders them alike.
func older(a, b ring.Holding) int {
	return cmp.Or(cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Session, b.Session))
}

// ordered returns the connections oldest first.
func ordered(holdings []ring.Holding) []ring.Holding {
	if len(holdings) < 2 {
		return holdings
	}
	sorted := slices.Clone(holdings)
	slices.SortFunc(sorted, older)
	return sorted
}

// isNewest reports whether no later one of the ordered connections is of the
// daemon of the one at i. There are few.
func isNewest(sorted []ring.Holding, i int) bool {
	return !slices.ContainsFunc(sorted[i+1:], func(h ring.Holding) bool { return h.Daemon == sorted[i].Daemon })
}

// surplus returns which of an orchestrator's connections have to go: those
// replaced by a newer one of the same daemon, and of the rest the newest ones
// over the limit. It is deterministic, so that edges need not agree first.
func surplus(holdings []ring.Holding, limit int) (replaced, over []ring.Holding) {
	sorted := ordered(holdings)
	kept := 0
	for i, h := range sorted {
		switch {
		case !isNewest(sorted, i):
			replaced = append(replaced, h)
		case kept == limit:
			over = append(over, h)
		default:
			kept++
		}
	}
	return replaced, over
}

// others returns the connections that a newcomer does not replace, without
// those that are replaced already, oldest first; and the newest one that it
// does replace, if any.
func others(holdings []ring.Holding, daemon protocol.DaemonID) (rest []ring.Holding, same *ring.Holding) {
	sorted := ordered(holdings)
	for i, h := range sorted {
		switch {
		case h.Daemon == daemon:
			same = &sorted[i]
		case isNewest(sorted, i):
			rest = append(rest, h)
		}
	}
	return rest, same
}

// nextGeneration is one more than the highest known of the orchestrator.
func nextGeneration(holdings []ring.Holding) uint64 {
	var highest uint64
	for _, h := range holdings {
		highest = max(highest, h.Generation)
	}
	return highest + 1
}
