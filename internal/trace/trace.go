// Package trace keeps the way of events: who had an event in its hands, when, and
// what became of it there. Each tier notes the hops that it makes itself, for a
// sample of the events and for all that fail, are repeated or have waited long:
//
//	bridge   heard ─▶ stored
//	router              └─▶ forwarded
//	edge                     └─▶ received ─▶ written ─▶ acknowledged, or why not
//
// An edge is told by the batch which router has forwarded it, and keeps of each
// unsettled event how it came. So when an event turns out to be worth it, the hops
// before are known as well, and nothing has to be noted of those that go well.
//
// What is noted never makes an event wait: it goes into a buffer, from there into a
// stream of its own (eventlog.TraceStream), and what finds no room is counted and
// forgotten. Package operation also tells it live, while an operator watches.
package trace

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Step is what has happened to an event; a closed set.
type Step string

// The steps, in the order of the way.
const (
	// Published: by the publisher's clock, as the event says it.
	Published Step = "published"
	// Heard by a bridge, on Redis or by HTTP.
	Heard Step = "heard"
	// Kept: it waits for its addressee to be known.
	Kept Step = "kept"
	// Stored in the log, by the clock of NATS, or when a bridge was told so.
	Stored Step = "stored"
	// Unclaimed: no edge holds its orchestrator, so it waits in the log.
	Unclaimed Step = "unclaimed"
	// Forwarded by a router to an edge, and Unconfirmed if that has not answered.
	Forwarded   Step = "forwarded"
	Unconfirmed Step = "unconfirmed"
	// Received by an edge from a router, or Read by it from the log.
	Received Step = "received"
	Read     Step = "read"
	// PassedOver: settled for a daemon without being sent.
	PassedOver Step = "passed over"
	// Written to the daemon's socket.
	Written Step = "written"
	// Unacknowledged in time, or when the connection ended.
	Unacknowledged Step = "unacknowledged"
	Acknowledged   Step = "acknowledged"
	DeadLettered   Step = "dead-lettered"
)

// What happens to a connection, which is told live and not kept.
const (
	Connected  Step = "connected"
	Subscribed Step = "subscribed"
	CatchesUp  Step = "catches up"
	WindowFull Step = "window full"
	Hinted     Step = "hinted"
	Ended      Step = "disconnected"
)

// Cause is why an event is traced. Of several the highest counts.
type Cause uint8

// The causes.
const (
	None     Cause = iota
	Watched        // an operator watches its orchestrator: told, and not kept
	Sampled        // one of so many
	Waited         // longer than Long
	Repeated       // sent again
	Failed
)

var causes = [...]string{"", "watched", "sampled", "waited", "repeated", "failed"}

func (c Cause) String() string { return causes[c] }

// MarshalText writes a cause as a word.
func (c Cause) MarshalText() ([]byte, error) { return []byte(causes[c]), nil }

// UnmarshalText reads one; what it does not know is None.
func (c *Cause) UnmarshalText(text []byte) error {
	*c = None
	for i, name := range causes {
		if name == string(text) {
			*c = Cause(i)
		}
	}
	return nil
}

// Long is for how long an event may wait between two hops before it is traced.
const Long = time.Second

// The tiers that hops name beside those of nodes.
const (
	TierPublisher = "publisher"
	TierLog       = "log"
	TierRouter    = "router"
)

// Hop is one step on the way.
type Hop struct {
	At   time.Time `json:"at"`
	Step Step      `json:"step"`
	// Tier and Node have made it.
	Tier string `json:"tier"`
	Node string `json:"node,omitempty"`
	// Edge is to whom it was forwarded, by its name in the directory; Daemon and
	// Session to whom it was written.
	Edge    string `json:"edge,omitempty"`
	Daemon  string `json:"daemon,omitempty"`
	Session string `json:"session,omitempty"`
	// Detail says in words what else is to be known.
	Detail string `json:"detail,omitempty"`
}

// Record is what a node says of an event in one go.
type Record struct {
	Cause        Cause       `json:"cause"`
	Orchestrator event.Token `json:"orchestrator"`
	// Event is its id; "": it is about a connection.
	Event string `json:"event,omitempty"`
	// Sequence is where it stands in the partition; 0: it does not, or not yet.
	Partition event.Partition `json:"partition"`
	Epoch     string          `json:"epoch,omitempty"`
	Sequence  uint64          `json:"sequence,omitempty"`
	// TraceID is that of Span.
	TraceID string `json:"traceId,omitempty"`
	Hops    []Hop  `json:"hops"`
	// Span says where the record stands in the event's trace; nil: it has none.
	Span *Span `json:"-"`
}

// Span is a record as a part of the event's trace: it ends with the last of the hops.
type Span struct {
	// Context is what came before.
	*tracing.Context
	ID tracing.SpanID
	// Began is when the record's tier got the event, or was done with the step before;
	// zero: the step took no time.
	Began time.Time
}

// NewSpan returns the span that follows, and the context for what follows that; nil
// and the same context for an event that is not traced.
func NewSpan(c *tracing.Context, began time.Time) (*Span, *tracing.Context) {
	if c.IfSampled() == nil {
		return nil, c
	}
	s := &Span{Context: c, ID: tracing.NewSpanID(), Began: began}
	return s, c.After(s.ID)
}

// Of is the event's trace; nil: it has none.
func (s *Span) Of() *tracing.Context {
	if s == nil {
		return nil
	}
	return s.Context
}

// Failed reports whether a step is one that should not be.
func (s Step) Failed() bool {
	return s == Unconfirmed || s == Unacknowledged || s == DeadLettered
}

// What is the same in two nodes' words about one hop.
type sameHop struct {
	event, step, tier, node, daemon, session string
	at                                       int64
}

// Hops are those of several records without what is said twice, in the order of
// their times.
type Hops struct {
	seen map[sameHop]bool
	list []Hop
}

// Add takes those in that are new, and returns them.
func (h *Hops) Add(record Record) (added []Hop) {
	if h.seen == nil {
		h.seen = map[sameHop]bool{}
	}
	for _, hop := range record.Hops {
		key := sameHop{record.Event, string(hop.Step), hop.Tier, hop.Node, hop.Daemon, hop.Session, hop.At.UnixNano()}
		if !h.seen[key] {
			h.seen[key] = true
			added = append(added, hop)
		}
	}
	h.list = append(h.list, added...)
	return added
}

// Sorted returns all of them.
func (h *Hops) Sorted() []Hop {
	slices.SortStableFunc(h.list, func(a, b Hop) int { return a.At.Compare(b.At) })
	return h.list
}

// Forget makes room for more, once there are many.
func (h *Hops) Forget(many int) {
	if len(h.list) > many {
		*h = Hops{}
	}
}

// Arrival is how events came to an edge, shared by those that came together. A nil
// one: nobody has noted it.
type Arrival struct {
	At time.Time
	// Router has sent them then; "": the edge has read them from the log itself,
	// because of Why.
	Router string
	Sent   time.Time
	Why    string
}

// Hops are those that led here.
func (a *Arrival) Hops() []Hop {
	switch {
	case a == nil:
		return nil
	case a.Router != "":
		return []Hop{{At: a.Sent, Step: Forwarded, Tier: TierRouter, Node: a.Router}, {At: a.At, Step: Received}}
	case a.Why != "":
		return []Hop{{At: a.At, Step: Read, Detail: a.Why}}
	}
	return []Hop{{At: a.At, Step: Received}}
}

// PublishedAt is the hop that an event itself tells of; ok: it does so.
func PublishedAt(timestamp string) (hop Hop, ok bool) {
	at, err := time.Parse(time.RFC3339Nano, timestamp)
	return Hop{At: at, Step: Published, Tier: TierPublisher}, err == nil
}
