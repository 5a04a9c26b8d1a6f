package event

// TraceContext is the W3C Trace Context of an event, as its publisher wrote it. What is
// malformed is ignored by whoever would use it, as that specification asks.
type TraceContext struct {
	Traceparent string
	Tracestate  string // may be empty
}

// traceContext is nil where neither is given.
func traceContext(traceparent, tracestate string) *TraceContext {
	if traceparent == "" && tracestate == "" {
		return nil
	}
	return &TraceContext{traceparent, tracestate}
}

// Traceparent is that of Trace; "" of none.
func (e Event) Traceparent() string {
	if e.Trace == nil {
		return ""
	}
	return e.Trace.Traceparent
}

// Tracestate is that of Trace; "" of none.
func (e Event) Tracestate() string {
	if e.Trace == nil {
		return ""
	}
	return e.Trace.Tracestate
}

// The headers of an event in the log that say where it stands in a trace of its
// publisher's, as W3C Trace Context has it. They are written in lower case.
const (
	HeaderTraceparent = "traceparent"
	HeaderTracestate  = "tracestate"
)

// ValidTraceparent reports whether the text has the form of a traceparent:
// 00-<trace id>-<span id>-<flags>, or that of a later version, which begins alike.
func ValidTraceparent(text string) bool {
	const length = 55
	if len(text) < length || len(text) > length && (text[:2] == "00" || text[length] != '-') || text[:2] == "ff" {
		return false
	}
	trace, span := false, false // is there more than zeros?
	for i := range length {
		c := text[i]
		switch i {
		case 2, 35, 52:
			if c != '-' {
				return false
			}
			continue
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
		trace = trace || i > 2 && i < 35 && c != '0'
		span = span || i > 35 && i < 52 && c != '0'
	}
	return trace && span
}
