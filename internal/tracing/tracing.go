// Package tracing says where an event stands in a distributed trace: the context of
// W3C Trace Context, as publishers send it and as it travels on with the event, and
// which events are traced.
//
//	publisher ─traceparent─▶ bridge ─header of the log─▶ router ─batch─▶ edge
//
// Every tier decides alike whether an event is traced, without a word of the others:
// as its publisher says, or else by the id of its trace, which is made of the event's
// own id. So an event that the bridge has not chosen needs no header that says so.
//
// It knows neither hops (package trace) nor exporters (package otlp), and costs
// nothing where nobody has a Sampler.
package tracing

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"math/rand/v2"
	"strings"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// TraceID names a trace.
type TraceID [16]byte

func (id TraceID) String() string { return hex.EncodeToString(id[:]) }

// SpanID names a span within its trace; zero: none.
type SpanID [8]byte

// NewSpanID returns one that nobody else has.
func NewSpanID() (id SpanID) {
	for id == (SpanID{}) {
		binary.BigEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// Context is where an event stands in its trace. Nobody modifies one. A nil one: the
// event is not traced.
type Context struct {
	TraceID TraceID
	// Parent is the span before; zero: the trace begins here.
	Parent SpanID
	// State is the tracestate, which is passed on as it came.
	State string
	// Sampled: its spans are exported. Late: but nobody had chosen it before something
	// was the matter with it.
	Sampled, Late bool
}

// maxState is how long a tracestate may be to be passed on.
const maxState = 512

// Parse reads the two headers of W3C Trace Context, or the event's fields of the same
// names. What is malformed counts as absent, as the specification asks.
func Parse(traceparent, tracestate string) (c Context, ok bool) {
	if !event.ValidTraceparent(traceparent) {
		return c, false
	}
	var flags [1]byte
	for _, part := range []struct {
		to   []byte
		from string
	}{{c.TraceID[:], traceparent[3:35]}, {c.Parent[:], traceparent[36:52]}, {flags[:], traceparent[53:55]}} {
		if _, err := hex.Decode(part.to, []byte(part.from)); err != nil {
			return Context{}, false
		}
	}
	c.Sampled = flags[0]&1 != 0
	if len(tracestate) <= maxState && printable(tracestate) {
		c.State = tracestate
	}
	return c, true
}

func printable(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// Traceparent is the header for whoever has the event next.
func (c *Context) Traceparent() string {
	text := make([]byte, 0, 55)
	text = append(text, "00-"...)
	text = hex.AppendEncode(text, c.TraceID[:])
	text = append(text, '-')
	text = hex.AppendEncode(text, c.Parent[:])
	if c.Sampled {
		return string(append(text, "-01"...))
	}
	return string(append(text, "-00"...))
}

// After is the context for what follows a span.
func (c *Context) After(span SpanID) *Context {
	next := *c
	next.Parent = span
	return &next
}

// IfSampled is the context, or nil where it is only passed on.
func (c *Context) IfSampled() *Context {
	if c == nil || !c.Sampled {
		return nil
	}
	return c
}

// ID is the trace's id as text; "" of none.
func (c *Context) ID() string {
	if c == nil {
		return ""
	}
	return c.TraceID.String()
}

// Log returns the attributes of a log line about an event, with the id of its trace if
// it has one.
func (c *Context) Log(attributes ...any) []any {
	if c == nil {
		return attributes
	}
	return append(attributes, "trace_id", c.ID())
}

// LogOf is Context.Log for an event whose publisher may have sent a context.
func LogOf(e event.Event, attributes ...any) []any {
	if c, ok := Parse(e.Traceparent(), ""); ok {
		return c.Log(attributes...)
	}
	return attributes
}

type contextKey struct{}

// With returns a context of Go in which an event of this trace is published.
func With(ctx context.Context, c *Context) context.Context {
	return context.WithValue(ctx, contextKey{}, c)
}

// From returns the trace of With; nil: there is none.
func From(ctx context.Context) *Context {
	c, _ := ctx.Value(contextKey{}).(*Context)
	return c
}

// IDOf is the id of an event's trace where its publisher has named none. It is made of
// event.MessageID, so that all who have the event in their hands mean the same trace.
func IDOf[Text string | []byte](messageID Text) (id TraceID) {
	h := uint64(len(messageID)) * mixer
	for len(messageID) >= 8 {
		h = mix(h^word(messageID), first) + mixer
		messageID = messageID[8:]
	}
	for i := range len(messageID) {
		h = mix(h^uint64(messageID[i]), first) + mixer
	}
	h ^= h >> 32
	binary.BigEndian.PutUint64(id[:8], mix(mix(h, first), mixer)|1) // no trace has the id zero
	binary.BigEndian.PutUint64(id[8:], mix(mix(h, second), mixer))
	return id
}

// What the bits of an id are mixed with.
const mixer, first, second = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

// mix has each bit of the result depend on all of a.
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a^b, b)
	return bits.RotateLeft64(high^low, 29)
}

func word[Text string | []byte](text Text) uint64 {
	return uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
		uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
}
