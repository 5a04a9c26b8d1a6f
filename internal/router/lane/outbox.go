package lane

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/eventlog"
)

// Limits of a batch. With the largest tokens a full one stays below NATS'
// default limit of 1 MiB for a message.
const (
	maxBatchEvents = 256
	maxBatchBytes  = 512 << 10
	maxBatchHints  = 256
	// itemOverhead is more than what an event takes beside token and body.
	itemOverhead = 64
)

// A lagging edge is tried again after these times, doubling.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = time.Second
)

// patience is for how long events are held back for the sake of an edge that is
// crowded. An edge at work answers a batch within it, and so sets the pace of a
// router that catches up; one that is slow or silent is waited for this once,
// and then sent hints. It bounds what an edge can cost the others.
const patience = 5 * time.Millisecond

// outbox is what the lane has for one edge:
//
//	event ─▶ open ─close─▶ in flight ─receipt─▶ handed over
//	            │             │ unanswered twice, or nobody there
//	            ▼ lagging     ▼
//	            hints ─close─▶ in flight ...
type outbox struct {
	edge     string
	open     []delivery.Forwarded
	bytes    int
	inflight []*batch
	hints    hintQueue
	// crowdedAt is when the edge last became crowded.
	crowdedAt time.Time
	// lagging: the last news of the edge was a batch that did not arrive. Its
	// events become hints at once, so that nobody waits for it.
	lagging bool
	backoff time.Duration
	retryAt time.Time
}

// batch is one that was sent and not answered yet.
type batch struct {
	outbox *outbox
	send   Send
	hints  []hint
	lowest uint64
}

// full reports whether the edge has all the unanswered batches it may have.
func (l *Lane) full(o *outbox) bool { return len(o.inflight) >= l.cfg.Inflight }

// crowded reports whether the edge has, beside all the unanswered batches that
// it may have, an open one with as much as may wait there.
func (l *Lane) crowded(o *outbox) bool {
	return l.full(o) && (len(o.open) >= maxBatchEvents || o.bytes >= maxBatchBytes/2)
}

// forward puts an event on its way to the edge. What finds no room becomes a
// hint: memory stays bounded even under a caller that feeds a blocked lane.
func (l *Lane) forward(o *outbox, m eventlog.Message, after uint64) {
	size := len(m.Token) + len(m.Body) + itemOverhead
	if len(o.open) > 0 && (len(o.open) >= maxBatchEvents || o.bytes+size > maxBatchBytes) && !l.full(o) {
		l.dispatch(o)
	}
	if o.lagging || len(o.open) >= maxBatchEvents || o.bytes+size > maxBatchBytes {
		o.hints.add(hint{token: m.Token, last: m.Sequence, lowest: m.Sequence})
		return
	}
	already := l.crowded(o)
	o.open = append(o.open, delivery.Forwarded{Message: m, After: after})
	o.bytes += size
	if len(o.open) == maxBatchEvents && !l.full(o) {
		l.dispatch(o)
	}
	if !already {
		o.crowdedAt = l.now // means something only while it is
	}
}

// flush sends what the edge may be sent now.
func (l *Lane) flush(o *outbox) {
	for l.maySend(o) {
		if !l.dispatch(o) {
			return
		}
	}
}

func (l *Lane) maySend(o *outbox) bool {
	if o.lagging {
		return len(o.inflight) == 0 && o.hints.len() > 0 && !l.now.Before(o.retryAt)
	}
	return !l.full(o) && (len(o.open) > 0 || o.hints.len() > 0)
}

// dispatch closes the open batch, adds hints that wait and asks for it to be
// sent. It returns false if there was nothing left worth sending.
func (l *Lane) dispatch(o *outbox) bool {
	b := &batch{outbox: o, hints: l.takeHints(o)}
	if len(o.open) == 0 && len(b.hints) == 0 {
		return false
	}
	l.lastID++
	b.send = Send{Edge: o.edge, ID: l.lastID, Batch: delivery.Batch{Partition: l.cfg.Partition, Epoch: l.cfg.Epoch, Events: o.open}}
	if len(o.open) > 0 {
		b.lowest = o.open[0].Sequence
	}
	for _, h := range b.hints {
		b.lowest = lower(b.lowest, h.lowest)
		b.send.Batch.Hints = append(b.send.Batch.Hints, delivery.Hint{Token: h.token, Sequence: h.last})
	}
	o.open, o.bytes = nil, 0
	o.inflight = append(o.inflight, b)
	l.inflight[l.lastID] = b
	l.send(b)
	return true
}

func (l *Lane) send(b *batch) {
	b.send.Attempt++
	l.effects = append(l.effects, b.send)
}

// takeHints takes up to a batch of hints that the edge still has a use for: an
// orchestrator that left the edge reads the log where it goes.
func (l *Lane) takeHints(o *outbox) []hint {
	var taken []hint
	for len(taken) < maxBatchHints {
		h, ok := o.hints.pop()
		if !ok {
			break
		}
		if l.holds(o.edge, h) {
			taken = append(taken, h)
		}
	}
	return taken
}

func (l *Lane) holds(edge string, h hint) bool {
	l.keepers = l.cfg.Holders(l.keepers[:0], h.token)
	return slices.Contains(l.keepers, edge)
}

// lag marks the edge as one that nobody waits for.
func (l *Lane) lag(o *outbox) {
	o.lagging = true
	if !l.now.Before(o.retryAt) {
		o.backoff = min(max(2*o.backoff, firstRetry), lastRetry)
		o.retryAt = l.now.Add(o.backoff)
	}
	o.hintOpen()
}

func (o *outbox) hintOpen() {
	for _, e := range o.open {
		o.hints.add(hint{token: e.Token, last: e.Sequence, lowest: e.Sequence})
	}
	o.open, o.bytes = nil, 0
}

// miss turns a batch that did not arrive into hints.
func (o *outbox) miss(b *batch) {
	for _, e := range b.send.Batch.Events {
		o.hints.add(hint{token: e.Token, last: e.Sequence, lowest: e.Sequence})
	}
	for _, h := range b.hints {
		o.hints.add(h)
	}
}

// close ends a batch's flight.
func (l *Lane) close(b *batch) {
	delete(l.inflight, b.send.ID)
	o := b.outbox
	o.inflight = slices.DeleteFunc(o.inflight, func(other *batch) bool { return other == b })
}

// lowest returns the lowest sequence that this edge has yet to receive, or 0.
func (o *outbox) lowest() uint64 {
	low := o.hints.lowest()
	if len(o.open) > 0 {
		low = lower(low, o.open[0].Sequence)
	}
	for _, b := range o.inflight {
		low = lower(low, b.lowest)
	}
	return low
}
