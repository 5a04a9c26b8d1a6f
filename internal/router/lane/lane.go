// Package lane is the routing of one partition as a pure state machine: no
// clock, no I/O. Its inputs are the log's events in order, new claims, edges
// that are gone, receipts and ticks; its outputs are effects (batches to send,
// dead letters to store) that the caller takes and carries out, and the
// checkpoint. Package router runs it; simulations drive it.
//
// What it keeps:
//   - Every event it forwards carries a true claim: its orchestrator has no
//     other event between After and Sequence. (Invariants 1 and 2 rest on it:
//     an edge that has everything up to After misses nothing.)
//   - The checkpoint never passes an event that an edge was to have and has
//     not received, itself or as a hint, unless that edge let go of it.
//   - Memory is bounded (invariant 4): by orchestrators remembered, unanswered
//     batches for each edge, and a hint for each orchestrator of an edge.
//
// Two lanes may run for one partition at once, each with a consumer of its
// own: edges drop what they have seen. They must not share a consumer, since
// the claim is about all events of the partition since the lane's start.
//
// An epoch ends a lane: the caller discards it and makes a new one.
package lane

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Sentinel is the token of the partition's own message, which is no event.
const Sentinel = event.SentinelToken

// Defaults of Config.
const (
	DefaultMemory   = 1 << 17
	DefaultInflight = 16
	DefaultHintAge  = time.Minute
)

// Config says what a lane works on. Partition, Epoch and Holders are required.
type Config struct {
	Partition event.Partition
	Epoch     eventlog.Epoch
	// Start is the checkpoint: the first event will be the log's first above it.
	Start uint64
	// Now is the time of the start; later times come with Tick.
	Now time.Time
	// Holders appends the edges that hold the orchestrator, each once.
	Holders func(dst []string, orchestrator event.Token) []string
	// Check returns nil for a valid event, else what is wrong (an
	// *event.InvalidError, or any other error). Nil: CheckEvent with the
	// default size, in the one partition there is.
	Check func(eventlog.Message) error
	// Memory is how many orchestrators are remembered; 0: DefaultMemory.
	Memory int
	// Inflight is how many unanswered batches an edge may have; 0: DefaultInflight.
	Inflight int
	// HintAge is for how long after its newest event was seen a new claim of an
	// orchestrator is answered with a hint; 0: DefaultHintAge.
	HintAge time.Duration
}

// Lane routes one partition within one epoch. It is not safe for concurrent use.
type Lane struct {
	cfg      Config
	now      time.Time
	position uint64
	memory   memory
	// outboxes in the order of their making, so that runs can be repeated.
	outboxes []*outbox
	inflight map[BatchID]*batch
	lastID   BatchID
	refused  []*refusal
	effects  []Effect
	// holders and keepers are room for lookups; the first is in use while
	// batches are closed, which look into the second.
	holders, keepers []string
}

// New returns a lane that stands at cfg.Start.
func New(cfg Config) *Lane {
	if cfg.Memory <= 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Inflight <= 0 {
		cfg.Inflight = DefaultInflight
	}
	if cfg.HintAge <= 0 {
		cfg.HintAge = DefaultHintAge
	}
	if cfg.Check == nil {
		cfg.Check = CheckEvent(event.DefaultMaxBytes, 0, 1, func([]string) {})
	}
	return &Lane{
		cfg: cfg, now: cfg.Now, position: cfg.Start,
		memory:   newMemory(cfg.Memory, cfg.Start),
		inflight: make(map[BatchID]*batch),
	}
}

// Event takes the log's next message, the sentinel included. Messages come in
// log order, none left out; a repeat is skipped.
func (l *Lane) Event(m eventlog.Message) Disposition {
	if m.Sequence <= l.position {
		return Skipped
	}
	l.position = m.Sequence
	if m.Token == Sentinel {
		return Skipped
	}
	// A refused event is remembered too: After is about the log as it is.
	after := l.memory.note(m.Token, m.Sequence, l.now)
	if err := l.cfg.Check(m); err != nil {
		l.refuse(m, err)
		return Refused
	}
	l.holders = l.cfg.Holders(l.holders[:0], m.Token)
	for _, edge := range l.holders {
		l.forward(l.outbox(edge), m, after)
	}
	if len(l.holders) == 0 {
		return Queued
	}
	return Routed
}

// ClaimAdded answers a claim that is new, a second connection's too, with a
// hint if the orchestrator had an event lately: it may have come after the
// connection looked into the log and before the claim was known here. What
// counts is when the event was seen, not when it was stored: the clocks of
// nodes need not agree, and a router that starts late must hint what it passed.
func (l *Lane) ClaimAdded(orchestrator event.Token, edge string) {
	last, seen, ok := l.memory.get(orchestrator)
	if !ok || l.now.Sub(seen) >= l.cfg.HintAge {
		return
	}
	// It does not hold the checkpoint: when the event was seen, nobody held it.
	l.outbox(edge).hints.add(hint{token: orchestrator, last: last})
}

// EdgeGone releases all that the edge was to receive, except what the
// directory says it holds, since it may have come back before the lane heard.
func (l *Lane) EdgeGone(edge string) {
	i := l.find(edge)
	if i < 0 {
		return
	}
	gone := l.outboxes[i]
	l.outboxes = slices.Delete(l.outboxes, i, i+1)
	gone.hintOpen()
	for _, b := range slices.Clone(gone.inflight) {
		gone.miss(b)
		l.close(b)
	}
	for {
		h, ok := gone.hints.pop()
		if !ok {
			return
		}
		if l.holds(edge, h) {
			l.outbox(edge).hints.add(h)
		}
	}
}

// Receipt says what became of a batch. A batch that is not in flight is
// ignored: it was answered before, missed, or its edge is gone.
func (l *Lane) Receipt(id BatchID, outcome Outcome) {
	b := l.inflight[id]
	if b == nil {
		return
	}
	o := b.outbox
	switch {
	case outcome == Received:
		l.close(b)
		o.lagging, o.backoff, o.retryAt = false, 0, time.Time{}
	case outcome == TimedOut && b.send.Attempt == 1:
		l.lag(o)
		l.send(b)
	case outcome == NoResponders:
		// What the edge has not answered was under way when it lost its
		// connection, and hints wait for the last of it.
		for _, lost := range slices.Clone(o.inflight) {
			l.close(lost)
			o.miss(lost)
		}
		l.lag(o)
	default:
		l.close(b)
		o.miss(b)
		l.lag(o)
	}
}

// Tick tells the time and does what is due: dead letters to try again, hints
// for lagging edges. It is called when the consumer has run dry as well, so that
// a lone event does not wait.
func (l *Lane) Tick(now time.Time) {
	l.now = now
	l.retryRefused()
	l.Flush()
}

// Flush closes the open batches of all edges that may be sent one.
func (l *Lane) Flush() {
	for _, o := range l.outboxes {
		l.flush(o)
	}
}

// Take appends the effects since the last call to dst and forgets them.
func (l *Lane) Take(dst []Effect) []Effect {
	dst = append(dst, l.effects...)
	clear(l.effects)
	l.effects = l.effects[:0]
	return dst
}

// Hold returns for how long the caller is to hold back events; 0: not at all.
// Too many refused events may wait for the dead letters, or an edge that is at
// work may be crowded: events for it would become hints, each of which costs it
// a read of the log. For that others wait no longer than patience. All other
// inputs are welcome meanwhile, and may end it.
func (l *Lane) Hold() time.Duration {
	if len(l.refused) >= MaxRefused {
		return firstRetry
	}
	var hold time.Duration
	for _, o := range l.outboxes {
		if !o.lagging && l.crowded(o) {
			hold = max(hold, o.crowdedAt.Add(patience).Sub(l.now))
		}
	}
	return hold
}

// Position is the sequence of the last message taken.
func (l *Lane) Position() uint64 { return l.position }

// Checkpoint is where a successor may start: every event up to here has been
// received by the edges that held its orchestrator, or had none, or is stored
// in the dead letters.
func (l *Lane) Checkpoint() uint64 {
	low := l.position + 1
	for _, o := range l.outboxes {
		if first := o.lowest(); first != 0 {
			low = min(low, first)
		}
	}
	for _, r := range l.refused {
		low = min(low, r.message.Sequence)
	}
	return low - 1
}

// Idle reports whether nothing waits to be sent, received or stored.
func (l *Lane) Idle() bool {
	for _, o := range l.outboxes {
		if len(o.open) > 0 || len(o.inflight) > 0 || o.hints.len() > 0 {
			return false
		}
	}
	return len(l.refused) == 0
}

// Refused counts the refused events that wait for the dead letters. With
// MaxRefused of them the lane asks to Hold.
func (l *Lane) Refused() int { return len(l.refused) }

// Lagging counts the edges whose last news was a batch that did not arrive.
func (l *Lane) Lagging() int {
	n := 0
	for _, o := range l.outboxes {
		if o.lagging {
			n++
		}
	}
	return n
}

func (l *Lane) find(edge string) int {
	return slices.IndexFunc(l.outboxes, func(o *outbox) bool { return o.edge == edge })
}

func (l *Lane) outbox(edge string) *outbox {
	if i := l.find(edge); i >= 0 {
		return l.outboxes[i]
	}
	o := &outbox{edge: edge}
	l.outboxes = append(l.outboxes, o)
	return o
}
