package httpevents

import (
	"hash/fnv"
	"io"
	"slices"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Heads are an orchestrator's events without their bodies: all that the log has or
// had of it after one event, in order. The zero value has none. It is not safe for
// concurrent use.
type Heads struct {
	before uint64 // the sequence of the event before the first; 0: there is none
	list   []head
}

// head is an event as an index remembers it. Two ids may have one hash, so the body
// decides.
type head struct {
	sequence uint64
	id       uint64 // hash of the message id; 0: not known, and may be any
}

func hashOf(messageID string) uint64 {
	if messageID == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = io.WriteString(h, messageID) // never fails
	return h.Sum64()
}

// Next is the sequence from which on there may be events that are not among these.
func (h *Heads) Next() uint64 {
	if len(h.list) == 0 {
		return h.before + 1
	}
	return h.list[len(h.list)-1].sequence + 1
}

// Add takes the event after the last. Beyond most events the first are dropped.
func (h *Heads) Add(sequence uint64, messageID string, most int) {
	h.list = append(h.list, head{sequence, hashOf(messageID)})
	if len(h.list) >= 2*most {
		drop := len(h.list) - most
		h.before = h.list[drop-1].sequence
		h.list = slices.Clone(h.list[drop:])
	}
}

// learn notes the id of an event that was published without a message id.
func (h *Heads) learn(sequence uint64, messageID string) {
	i, found := slices.BinarySearchFunc(h.list, sequence, func(a head, s uint64) int {
		switch {
		case a.sequence < s:
			return -1
		case a.sequence > s:
			return 1
		}
		return 0
	})
	if found && h.list[i].id == 0 {
		h.list[i].id = hashOf(messageID)
	}
}

// Found gathers from the events of an orchestrator those that are to be
// acknowledged: first by the heads of all, then by the bodies of those that may
// be meant, so that no more is read than was asked for. It is not safe for
// concurrent use.
type Found struct {
	viewer     Viewer
	heads      *Heads
	wanted     map[string]bool // event ids
	candidates []cursor.Range  // whose bodies have not been seen
	// Ranges: each ends with an event to be acknowledged, and begins right after
	// the orchestrator's event before it.
	Ranges []cursor.Range
}

// NewFound returns a search for the events with these ids among those that the
// viewer sees. Ids that no event has are never found.
func NewFound(v Viewer, ids []string, heads *Heads) *Found {
	f := &Found{viewer: v, heads: heads, wanted: make(map[string]bool, len(ids))}
	messages := make(map[uint64]bool, len(ids))
	for _, id := range ids {
		f.wanted[id] = true
		messages[hashOf(event.MessageID(v.Orchestrator, id))] = true
	}
	previous := heads.before
	for _, h := range heads.list {
		if h.id == 0 || messages[h.id] {
			f.candidates = append(f.candidates, cursor.Range{First: previous + 1, Last: h.sequence})
		}
		previous = h.sequence
	}
	return f
}

// Next is where the next event to be read stands, and how many are to be read at
// most from there on, none of which is beside the point; 0: none.
func (f *Found) Next() (from uint64, events int) {
	if len(f.candidates) == 0 {
		return 0, 0
	}
	events = 1
	for events < len(f.candidates) && f.candidates[events].First == f.candidates[events-1].Last+1 {
		events++
	}
	return f.candidates[0].Last, events
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
		ev, visible := f.viewer.Sees(m.Body)
		if visible && f.wanted[ev.ID] {
			f.Ranges = append(f.Ranges, f.candidates[0])
		}
		f.heads.learn(m.Sequence, event.MessageID(f.viewer.Orchestrator, ev.ID))
		f.candidates = f.candidates[1:]
	}
}
