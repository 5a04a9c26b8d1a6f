package httpevents

import (
	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
)

// Found gathers from the events of the log, which it is given from the oldest
// on, those that are to be acknowledged. It is not safe for concurrent use.
type Found struct {
	viewer   Viewer
	wanted   map[string]bool
	previous uint64 // the sequence of the event before the next
	// Ranges end with an event to be acknowledged each, and begin right after
	// the orchestrator's event before it.
	Ranges []cursor.Range
}

// NewFound returns a search for the events with these ids among those that the
// viewer sees. Ids that no event has are never found.
func NewFound(v Viewer, ids []string) *Found {
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	return &Found{viewer: v, wanted: wanted}
}

// Add takes the next event of the orchestrator. An id that was used twice means
// both events, as it does on a socket.
func (f *Found) Add(m eventlog.Message) {
	if ev, visible := f.viewer.Sees(m.Body); visible && f.wanted[ev.ID] {
		f.Ranges = append(f.Ranges, cursor.Range{First: f.previous + 1, Last: m.Sequence})
	}
	f.previous = m.Sequence
}

// Next is the sequence from which the log is to be read on.
func (f *Found) Next() uint64 { return f.previous + 1 }
