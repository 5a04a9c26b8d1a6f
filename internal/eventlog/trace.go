package eventlog

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// TraceStream holds what nodes say of the way of single events (package trace).
	TraceStream = "DAEMON_TRACES"
	tracePrefix = "daemon.traces"
	// TraceSubjects is what all subjects of traces begin with.
	TraceSubjects = tracePrefix + "."
	// traceAge is how long that is kept, and tracesOfOne how much of one event.
	traceAge    = 24 * time.Hour
	tracesOfOne = 100
	// traceDuplicates is the shortest duplicate window that NATS takes: records have
	// no ids, and one that is stored twice does no harm.
	traceDuplicates = 100 * time.Millisecond
)

// TraceSubject is where the records of an event stand; each may be *.
func TraceSubject(orchestrator, eventID event.Token) string {
	return tracePrefix + "." + string(orchestrator) + "." + string(eventID)
}

// traces drops the oldest when it is full: what is newer is more likely to be
// asked for.
func (c Config) traces() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              TraceStream,
		Description:       "Daemon gateway: the way of single events",
		Subjects:          []string{TraceSubject("*", "*")},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		MaxMsgsPerSubject: tracesOfOne,
		MaxBytes:          traceBytes,
		MaxAge:            traceAge,
		Duplicates:        traceDuplicates,
		Replicas:          c.StreamReplicas,
		AllowDirect:       true,
		DenyDelete:        true,
	}
}

// setUpTraces makes sure that the stream of traces exists, if this node may. The
// log works without, so that nothing waits for it: it has less room than it is to
// have, or none, where NATS cannot reserve it.
func (l *Log) setUpTraces(ctx context.Context) {
	if l.jet.Rights() == jet.Use {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	want := l.cfg.traces()
	info, err := l.jet.EnsureStream(ctx, want, l.jet.Stream)
	for jet.NoRoom(err) && want.MaxBytes > minTraceBytes {
		want.MaxBytes /= 2
		info, err = l.jet.EnsureStream(ctx, want, l.jet.Stream)
	}
	if err == nil {
		want.MaxBytes = min(want.MaxBytes, info.Config.MaxBytes)
		err = l.adjust(ctx, info.Config, want)
	}
	if err != nil && ctx.Err() == nil {
		l.logger.Warn("the stream of traces could not be made, and nothing is kept of single events", "stream", TraceStream, "error", err)
	}
}

// minTraceBytes: a smaller stream would be of no use.
const minTraceBytes = 4 << 20

// traceOf reads where an event stands in its trace.
func (l *Log) traceOf(m jet.Message) *tracing.Context {
	if l.traces == nil {
		return nil
	}
	return l.traces.Read(m.Header, jetstream.MsgIDHeader)
}

// traceOn writes the trace of ctx on an event, and returns it if the event is traced.
func (l *Log) traceOn(ctx context.Context, msg *nats.Msg) *tracing.Context {
	if l.traces == nil {
		return nil
	}
	c := tracing.From(ctx)
	if c == nil || c.Parent == (tracing.SpanID{}) {
		return nil // whoever reads the event finds the same
	}
	msg.Header[tracing.HeaderTraceparent] = []string{c.Traceparent()}
	if c.State != "" {
		msg.Header[tracing.HeaderTracestate] = []string{c.State}
	}
	return c.IfSampled()
}

// KeepTrace stores what a node says of an event. done is called exactly once, from
// another goroutine, and must not block.
func (l *Log) KeepTrace(ctx context.Context, orchestrator event.Token, eventID string, record []byte, done func(error)) {
	start := time.Now()
	msg := &nats.Msg{Subject: TraceSubject(orchestrator, event.TokenOf(eventID)), Data: record}
	l.jet.StoreAsync(ctx, TraceStream, msg, func(_ *jetstream.PubAck, err error) {
		l.metrics.observe(opTrace, start, err)
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			go func() { // it was deleted, or NATS had no room for it
				l.setUpTraces(ctx)
				done(err)
			}()
			return
		}
		done(err)
	})
}
