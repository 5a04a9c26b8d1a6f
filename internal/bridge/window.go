package bridge

import (
	"errors"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// leastWindow keeps a slow log from being left idle between two answers; it is
	// of all partitions together.
	leastWindow = 16
	// windowRest is how long a halved window is given to show in the answers: what
	// was under way before is given up by then.
	windowRest = 3 * time.Second
)

// publishWindow is how many messages of a partition are worked on at once: as
// many as it answers for in time. A partition that is slow, because its disks
// or the machine are, answers none of many publishes within their time, though
// it stores them, and each that is repeated makes it slower. So the window
// halves when answers do not come, and grows by one for each window of answers
// that do. Each partition has its own, because one that is slow, or has no
// leader, must not take the others' places.
type publishWindow struct {
	size     float64
	halvedAt time.Time
}

// answered notes what came of a publish, when so many were under way and at
// least as many are to be.
func (w *publishWindow) answered(now time.Time, err error, underWay, least int) {
	switch {
	case err == nil:
		w.size = min(w.size+1/w.size, window)
	case errors.Is(err, eventlog.ErrUnavailable) && now.Sub(w.halvedAt) > windowRest:
		w.size, w.halvedAt = max(min(w.size, float64(underWay))/2, float64(least)), now
	}
}

// answered notes what came of a publish that is still in the window.
func (p *pump) answered(orchestrator event.Token, err error) {
	partition := p.partitionOf(orchestrator)
	w := p.windows[partition]
	if w == nil {
		w = &publishWindow{size: window}
		p.windows[partition] = w
	}
	underWay := p.sequencer.InFlightOf(partition) + p.requests.InFlightOf(partition)
	w.answered(time.Now(), err, underWay, max(1, leastWindow/p.partitions))
	p.sequencer.SetWindow(partition, int(w.size))
	p.requests.SetWindow(partition, int(w.size))
}

func (p *pump) partitionOf(orchestrator event.Token) int {
	return int(event.PartitionOf(orchestrator, p.partitions))
}

// groupOf says which lanes share a window: those that publish into the same
// partition.
func (p *pump) groupOf(lane string) int {
	if token, ok := strings.CutPrefix(lane, publishLane); ok {
		return p.partitionOf(event.Token(token))
	}
	return noPartition
}

// noPartition is the group of all lanes that do not publish.
const noPartition = -1
