package tracing

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// The headers of an event in the log, and its fields, that hold its context.
const (
	HeaderTraceparent = event.HeaderTraceparent
	HeaderTracestate  = event.HeaderTracestate
)

// Samplers are the values of OTEL_TRACES_SAMPLER.
var Samplers = []string{
	"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
}

// Sampler decides which events are traced. A nil one has none traced.
type Sampler struct {
	parentBased bool   // what the publisher says counts
	bound       uint64 // of the last 63 bits of a trace's id; all at or above are not sampled
	off         bool   // nothing is traced but what the publisher says
}

// NewSampler returns one of Samplers. ratio is for those that are called so.
func NewSampler(name string, ratio float64) (*Sampler, error) {
	root, parentBased := strings.CutPrefix(name, "parentbased_")
	switch root {
	case "always_on":
		ratio = 1
	case "always_off":
		ratio = 0
	case "traceidratio":
		if ratio < 0 || ratio > 1 || math.IsNaN(ratio) {
			return nil, fmt.Errorf("the ratio is %v, expected 0 to 1", ratio)
		}
	default:
		return nil, fmt.Errorf("there is no sampler %q", name)
	}
	return &Sampler{parentBased: parentBased, bound: uint64(ratio * (1 << 63)), off: root == "always_off"}, nil
}

// chooses is the decision by the id alone, which is that of other implementations of
// the same ratio.
func (s *Sampler) chooses(id TraceID) bool { return binary.BigEndian.Uint64(id[8:])>>1 < s.bound }

// of takes over what a publisher says of an event's trace.
func (s *Sampler) of(c Context) *Context {
	if !s.parentBased {
		c.Sampled = s.chooses(c.TraceID)
	}
	return &c
}

// Begin returns the context of an event that has just come from its publisher. One that
// is not Sampled is only passed on.
func (s *Sampler) Begin(e event.Event, orchestrator event.Token) *Context {
	if s == nil {
		return nil
	}
	if c, ok := Parse(e.Traceparent(), e.Tracestate()); ok {
		return s.of(c)
	}
	var room [256]byte // so that most ids need no memory of their own
	return root(s, append(append(append(room[:0], orchestrator...), '/'), event.TokenOf(e.ID)...))
}

// Read returns the context of an event of the log by its headers, if it is traced.
func (s *Sampler) Read(header func(key string) string, messageID string) *Context {
	if s == nil {
		return nil
	}
	if traceparent := header(HeaderTraceparent); traceparent != "" {
		if c, ok := Parse(traceparent, header(HeaderTracestate)); ok {
			return s.of(c).IfSampled()
		}
	}
	return root(s, header(messageID))
}

// root is where an event stands of which no publisher says anything. messageID is that
// of event.MessageID.
func root[Text string | []byte](s *Sampler, messageID Text) *Context {
	if s.bound == 0 || len(messageID) == 0 {
		return nil
	}
	if id := IDOf(messageID); s.chooses(id) {
		return &Context{TraceID: id, Sampled: true}
	}
	return nil
}

// Late returns the context of an event that nobody has chosen and with which something
// is the matter: a trace of its own, that begins with what is said of it then.
func (s *Sampler) Late(orchestrator event.Token, eventID string) *Context {
	if s == nil || s.off {
		return nil
	}
	return &Context{TraceID: IDOf(event.MessageID(orchestrator, eventID)), Sampled: true, Late: true}
}
