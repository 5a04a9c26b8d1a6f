package httpevents

import (
	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Found gathers from the events of an orchestrator those that are to be
// acknowledged: first by the heads of all, then by the bodies of those that may
// be meant, so that no more is read than was asked for. It is not safe for
// concurrent use.
type Found struct {
	viewer     Viewer
	wanted     map[string]bool // event ids
	messages   map[string]bool // their message ids
	previous   uint64          // the sequence of the head before the next
	candidates []cursor.Range  // whose bodies have not been seen
	// Ranges: each ends with an event to be acknowledged, and begins right after
	// the orchestrator's event before it.
	Ranges []cursor.Range
}

// NewFound returns a search for the events with these ids among those that the
// viewer sees. Ids that no event has are never found.
func NewFound(v Viewer, ids []string) *Found {
	f := &Found{viewer: v, wanted: make(map[string]bool, len(ids)), messages: make(map[string]bool, len(ids))}
	for _, id := range ids {
		f.wanted[id] = true
		f.messages[event.MessageID(v.Orchestrator, id)] = true
	}
	return f
}

// Head takes the head of the orchestrator's next event, from the oldest on. One
// without a message id may be any.
func (f *Found) Head(sequence uint64, messageID string) {
	if messageID == "" || f.messages[messageID] {
		f.candidates = append(f.candidates, cursor.Range{First: f.previous + 1, Last: sequence})
	}
	f.previous = sequence
}

// Next is where the next event to be read stands, and how many are to be read at
// most from there on; 0: none.
func (f *Found) Next() (from uint64, events int) {
	if len(f.candidates) == 0 {
		return 0, 0
	}
	return f.candidates[0].Last, len(f.candidates)
}

// Add takes what was read from Next on. What does not come any more is gone. An id
// that was used twice means both events, as it does on a socket.
func (f *Found) Add(messages []eventlog.Message) {
	if len(messages) == 0 {
		f.candidates = nil
	}
	for _, m := range messages {
		for len(f.candidates) > 0 && f.candidates[0].Last < m.Sequence {
			f.candidates = f.candidates[1:]
		}
		if len(f.candidates) == 0 || f.candidates[0].Last != m.Sequence {
			continue
		}
		if ev, visible := f.viewer.Sees(m.Body); visible && f.wanted[ev.ID] {
			f.Ranges = append(f.Ranges, f.candidates[0])
		}
		f.candidates = f.candidates[1:]
	}
}
