package lane

import (
	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Effect is something the lane asks its caller to do: a Send or a DeadLetter.
type Effect interface{ effect() }

// BatchID names a batch of one lane; it is never used for another one. A
// batch that is sent once more keeps its id.
type BatchID uint64

// Send asks for a batch to be sent to an edge. The caller answers with
// Receipt, once for each Send (a further one is ignored).
type Send struct {
	// Edge is the member name of the edge.
	Edge string
	ID   BatchID
	// Attempt is 1, or 2 for the repeat of an unanswered batch.
	Attempt int
	// Batch is not to be modified: it is kept for the repeat.
	Batch delivery.Batch
}

// DeadLetter asks for an event that the validator refused to be stored among
// the dead letters. The caller answers with DeadLettered.
type DeadLetter struct {
	Message eventlog.Message
	// Invalid says why; it holds what could be read of the event.
	Invalid *event.InvalidError
}

func (Send) effect()       {}
func (DeadLetter) effect() {}

// Outcome is what became of a batch that was sent.
type Outcome int

// The outcomes of a Send.
const (
	// Received: the edge has the batch in its hands.
	Received Outcome = iota
	// NoResponders: nobody listens where the edge should.
	NoResponders
	// TimedOut: no answer within the forward timeout.
	TimedOut
)

// Disposition is what the lane did with an event.
type Disposition int

// The dispositions of an event.
const (
	// Skipped: the sentinel, or a sequence that the lane has passed already.
	Skipped Disposition = iota
	// Routed: on its way to at least one edge, itself or as a hint.
	Routed
	// Queued: no edge holds its orchestrator; it waits in the log.
	Queued
	// Refused: invalid, on its way to the dead letters.
	Refused
)
