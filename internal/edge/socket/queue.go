package socket

import (
	"encoding"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/tracing"
)

// batchBytes is about how much the writer hands to the kernel at once.
const batchBytes = 256 << 10

// Frame is an event on its way out.
type Frame struct {
	// Text is the message; it is asked for its text once, when it is written,
	// so that what waits for a slow peer is not held twice.
	Text encoding.TextAppender
	// Size is about how long the text is, in bytes.
	Size int
	// Priority lets the frame overtake waiting frames of a lower one.
	Priority int
	// Ping has a ping go out right before the frame; the Handler is told of the answer.
	Ping bool
	// Run, Sequence, Stored, Redelivered and Trace are the event's, for the Handler's
	// use in Written; the first two in Answered as well.
	Run         uint32
	Sequence    uint64
	Stored      time.Time
	Redelivered bool
	Trace       *tracing.Context

	end uint64 // how many bytes the connection had been given with it; 0: it was not
}

// queue holds what waits to be written: replies first, then events.
type queue struct {
	replies    [][]byte
	replyBytes int
	events     []Frame
}

func (q *queue) addReply(data []byte) {
	q.replies = append(q.replies, data)
	q.replyBytes += len(data)
}

// addEvent inserts behind all frames of the same or a higher priority.
// Invariant 2: only frames not yet taken by the writer can be overtaken.
func (q *queue) addEvent(f Frame) {
	i := len(q.events)
	for i > 0 && q.events[i-1].Priority < f.Priority {
		i--
	}
	q.events = slices.Insert(q.events, i, f)
}

// take removes what goes into the next batch.
func (q *queue) take() (replies [][]byte, events []Frame) {
	size := q.replyBytes
	replies, q.replies, q.replyBytes = q.replies, nil, 0
	n := 0
	for n < len(q.events) && (size < batchBytes || n == 0) {
		size += q.events[n].Size
		n++
	}
	events = q.events[:n:n]
	if q.events = q.events[n:]; len(q.events) == 0 {
		q.events = nil
	}
	return replies, events
}

func (q *queue) empty() bool { return len(q.replies) == 0 && len(q.events) == 0 }
