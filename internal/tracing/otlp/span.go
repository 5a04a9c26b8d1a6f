package otlp

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/neolith/daemon-gateway/internal/trace"
)

// The attributes of spans.
const (
	keyTier         = attribute.Key("gateway.tier")
	keyNode         = attribute.Key("gateway.node")
	keyPartition    = attribute.Key("gateway.partition")
	keySequence     = attribute.Key("gateway.sequence")
	keyOrchestrator = attribute.Key("gateway.orchestrator")
	keyEvent        = attribute.Key("gateway.event")
	keyCause        = attribute.Key("gateway.cause")
	keyOutcome      = attribute.Key("gateway.outcome")
	keyDetail       = attribute.Key("gateway.detail")
	keyEdge         = attribute.Key("gateway.edge")
	keyDaemon       = attribute.Key("gateway.daemon")
	keySession      = attribute.Key("gateway.session")
)

type spanKey struct{}

// givenIDs has a span get the ids that whoever comes behind has been told of already.
type givenIDs struct{}

func (givenIDs) NewIDs(ctx context.Context) (otel.TraceID, otel.SpanID) {
	s := ctx.Value(spanKey{}).(*trace.Span)
	return otel.TraceID(s.TraceID), otel.SpanID(s.ID)
}

func (givenIDs) NewSpanID(ctx context.Context, _ otel.TraceID) otel.SpanID {
	return otel.SpanID(ctx.Value(spanKey{}).(*trace.Span).ID)
}

// Export makes a span of a record: from when the tier had the event in its hands to the
// last of the hops, which gives it its name. The hops before are its events.
func (e *Exporter) Export(r trace.Record) {
	if len(r.Hops) == 0 || r.Span == nil {
		return
	}
	last := r.Hops[len(r.Hops)-1]
	began := r.Span.Began
	// By another clock, or by this one, which was set back: the time of day counts.
	if began.IsZero() || began.Round(0).After(last.At.Round(0)) {
		began = last.At
	}
	ctx := context.WithValue(context.Background(), spanKey{}, r.Span)
	if parent := parentOf(r.Span); parent.IsValid() {
		ctx = otel.ContextWithRemoteSpanContext(ctx, parent)
	}
	_, span := e.tracer.Start(ctx, string(last.Step),
		otel.WithTimestamp(began), otel.WithSpanKind(kindOf(last)), otel.WithAttributes(attributesOf(r, last)...))
	for _, h := range r.Hops[:len(r.Hops)-1] {
		span.AddEvent(string(h.Step), otel.WithTimestamp(h.At), otel.WithAttributes(keyTier.String(h.Tier), keyNode.String(h.Node)))
	}
	if last.Step.Failed() {
		span.SetStatus(codes.Error, last.Detail)
	}
	span.End(otel.WithTimestamp(last.At))
}

// parentOf is the span before; it is not valid where the trace begins here.
func parentOf(s *trace.Span) otel.SpanContext {
	state, err := otel.ParseTraceState(s.State)
	if err != nil {
		state = otel.TraceState{}
	}
	return otel.NewSpanContext(otel.SpanContextConfig{
		TraceID: otel.TraceID(s.TraceID), SpanID: otel.SpanID(s.Parent), TraceFlags: otel.FlagsSampled, TraceState: state, Remote: true,
	})
}

// kindOf has tools see who has sent something to whom.
func kindOf(h trace.Hop) otel.SpanKind {
	switch h.Step {
	case trace.Stored, trace.Kept:
		return otel.SpanKindProducer
	case trace.Forwarded, trace.Written:
		return otel.SpanKindConsumer
	}
	return otel.SpanKindInternal
}

func attributesOf(r trace.Record, last trace.Hop) []attribute.KeyValue {
	list := []attribute.KeyValue{
		keyTier.String(last.Tier), keyNode.String(last.Node), keyPartition.Int(int(r.Partition)),
		keyOrchestrator.String(string(r.Orchestrator)), keyEvent.String(r.Event),
		keyCause.String(r.Cause.String()), keyOutcome.String(string(last.Step)),
	}
	if r.Sequence > 0 {
		list = append(list, keySequence.Int64(int64(r.Sequence)))
	}
	for _, o := range []struct {
		key   attribute.Key
		value string
	}{{keyDetail, last.Detail}, {keyEdge, last.Edge}, {keyDaemon, last.Daemon}, {keySession, last.Session}} {
		if o.value != "" {
			list = append(list, o.key.String(o.value))
		}
	}
	return list
}
