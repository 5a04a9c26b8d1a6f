package eventlog

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Message is one event as the log holds it.
type Message struct {
	Token    event.Token
	Sequence uint64
	// Stored is when the log took it in (the server's clock).
	Stored time.Time
	// Body is the event's JSON as published. It is not to be modified.
	Body []byte
	// Trace is where the event stands in its trace; nil: it has none, or the log was
	// opened without ReadTraces. Of one that waits in DAEMON_UNRESOLVED it is what its
	// publisher said, sampled or not.
	Trace *tracing.Context
}

// Last is what a replica of the log said of one orchestrator: as of UpTo, its
// newest event stood at Sequence (0: it has none).
type Last struct {
	Sequence uint64
	// UpTo is the last sequence of the partition that the answering replica
	// had. A replica may lag, so nothing is known beyond it.
	UpTo uint64
}
