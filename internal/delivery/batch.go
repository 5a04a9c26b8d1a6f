// Package delivery is what a router and an edge say to each other over NATS:
// batches of forwarded events and hints, and their receipts. It holds the
// format and the subjects only; routers send (package router), edges receive
// (package edge). What edges say to one another is in package edge, and only
// the subjects of that are here.
//
// A batch is one NATS request to Subject(edge); the receipt is the reply and
// means "in my hands", not "delivered". Layout, integers as uvarints, texts and
// bytes with their length before them:
//
//	version(1 byte) partition epoch { item } ...
//	item: 1 token sequence after stored body | 2 token sequence | 3 origin | another kind(1 byte), bytes
//	      | 4 trace
//	origin: bytes, of which a uvarint is when the batch was sent, and the rest by whom
//	trace: bytes, of the event just before: 16 are its trace and 8 the span that it
//	       follows, and the rest is the tracestate
//
// While versions are mixed, a node is sent items that it does not know. It skips
// them: an event that it is not shown is found in the log, because the claims of
// later ones leave it out. So what a batch is to say in addition is a new kind, and
// the version stays.
package delivery

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Version is the first byte of every batch. History: 1, the first.
const Version = 1

const (
	kindEvent  byte = 1
	kindHint   byte = 2
	kindOrigin byte = 3
	kindTrace  byte = 4
)

// Forwarded is an event on its way to an edge.
type Forwarded struct {
	eventlog.Message
	// After says that the orchestrator has no other event in the log between
	// After and Sequence. A higher After is a weaker claim.
	After uint64
}

// Hint says that an orchestrator's newest event stands at Sequence or later,
// so that an edge that has not seen it reads the log.
type Hint struct {
	Token    event.Token
	Sequence uint64
}

// Batch carries events and hints of one partition to one edge, events in log
// order.
type Batch struct {
	Partition event.Partition
	Epoch     eventlog.Epoch
	Events    []Forwarded
	Hints     []Hint
	// Router has sent the batch, and when; "": it does not say so.
	Router string
	Sent   time.Time
	// Unknown counts items of kinds that Decode does not know.
	Unknown int
}

// ErrMalformed is wrapped by every error of Decode.
var ErrMalformed = errors.New("malformed batch")

// Encode appends the batch to buf.
func (b Batch) Encode(buf []byte) []byte {
	buf = append(buf, Version)
	buf = binary.AppendUvarint(buf, uint64(b.Partition))
	buf = appendText(buf, string(b.Epoch))
	for _, e := range b.Events {
		buf = append(buf, kindEvent)
		buf = appendText(buf, string(e.Token))
		buf = binary.AppendUvarint(buf, e.Sequence)
		buf = binary.AppendUvarint(buf, e.After)
		buf = binary.AppendUvarint(buf, uint64(e.Stored.UnixNano()))
		buf = binary.AppendUvarint(buf, uint64(len(e.Body)))
		buf = append(buf, e.Body...)
		if e.Trace != nil {
			buf = appendTrace(buf, e.Trace)
		}
	}
	for _, h := range b.Hints {
		buf = append(buf, kindHint)
		buf = appendText(buf, string(h.Token))
		buf = binary.AppendUvarint(buf, h.Sequence)
	}
	if b.Router == "" {
		return buf
	}
	var sent [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(sent[:], uint64(b.Sent.UnixNano()))
	buf = append(buf, kindOrigin)
	buf = binary.AppendUvarint(buf, uint64(n+len(b.Router)))
	return append(append(buf, sent[:n]...), b.Router...)
}

func appendTrace(buf []byte, c *tracing.Context) []byte {
	buf = append(buf, kindTrace)
	buf = binary.AppendUvarint(buf, uint64(len(c.TraceID)+len(c.Parent)+len(c.State)))
	buf = append(append(buf, c.TraceID[:]...), c.Parent[:]...)
	return append(buf, c.State...)
}

// Decode reads a batch. The bodies share data's memory.
func Decode(data []byte) (Batch, error) {
	r := reader{data: data}
	if v := r.byte(); r.err == nil && v != Version {
		return Batch{}, fmt.Errorf("%w: version %d, expected %d", ErrMalformed, v, Version)
	}
	b := Batch{Partition: r.partition(), Epoch: eventlog.Epoch(r.bytes())}
	var before byte
	for r.err == nil && len(r.data) > 0 {
		kind := r.byte()
		switch kind {
		case kindEvent:
			var e Forwarded
			e.Token, e.Sequence, e.After = event.Token(r.bytes()), r.uvarint(), r.uvarint()
			e.Stored = time.Unix(0, int64(r.uvarint())).UTC()
			e.Body = r.bytes()
			b.Events = append(b.Events, e)
		case kindHint:
			b.Hints = append(b.Hints, Hint{Token: event.Token(r.bytes()), Sequence: r.uvarint()})
		case kindOrigin:
			b.Router, b.Sent = r.origin()
		case kindTrace:
			if c := r.trace(); before == kindEvent {
				b.Events[len(b.Events)-1].Trace = c
			}
		default:
			r.bytes()
			b.Unknown++
		}
		before = kind
	}
	if r.err != nil {
		return Batch{}, fmt.Errorf("%w: %w", ErrMalformed, r.err)
	}
	return b, nil
}

func appendText(buf []byte, s string) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(s)))
	return append(buf, s...)
}

// reader keeps the first fault and yields zero values after it.
type reader struct {
	data []byte
	err  error
}

var errShort = errors.New("ends too early")

func (r *reader) byte() byte {
	if r.err != nil || len(r.data) == 0 {
		r.fail()
		return 0
	}
	c := r.data[0]
	r.data = r.data[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) partition() event.Partition {
	p := r.uvarint()
	if p > math.MaxUint16 {
		r.err = fmt.Errorf("partition %d, expected at most %d", p, math.MaxUint16)
	}
	return event.Partition(p)
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if r.err != nil || n > uint64(len(r.data)) {
		r.fail()
		return nil
	}
	out := r.data[:n:n]
	r.data = r.data[n:]
	return out
}

// origin yields nothing where a later version has another one.
func (r *reader) origin() (router string, sent time.Time) {
	o := reader{data: r.bytes()}
	at := o.uvarint()
	if router = string(o.data); router != "" {
		sent = time.Unix(0, int64(at)).UTC()
	}
	return router, sent
}

// trace yields nil where a later version says something else.
func (r *reader) trace() *tracing.Context {
	c, text := &tracing.Context{Sampled: true}, r.bytes()
	if len(text) < len(c.TraceID)+len(c.Parent) {
		return nil
	}
	text = text[copy(c.TraceID[:], text):]
	c.State = string(text[copy(c.Parent[:], text):])
	return c
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = errShort
	}
	r.data = nil
}
