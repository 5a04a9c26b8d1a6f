package session_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func sampling(sample int) session.Config {
	cfg := config()
	cfg.Trace = trace.New(trace.Config{TraceSample: sample}, "edge", "edge-1", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	return cfg
}

// never is a sample in which no event of these tests is.
const never = 1 << 29

// fresh is at, stored when the session's time begins.
func fresh(sequence uint64, change ...func(*event.Event)) eventlog.Message {
	m := at(sequence, change...)
	m.Stored = time.Unix(1000, 0).Add(50 * time.Millisecond)
	return m
}

// arrives forwards an event with word of the router.
func (b *bench) arrives(after uint64, m eventlog.Message) {
	c := session.NewCandidate(m)
	c.Came(&trace.Arrival{At: b.now, Router: "router-1", Sent: b.now})
	b.s.Forwarded(epoch, c, after, b.now)
	b.take()
}

// steps are those of an event's hops, and why they were told.
func (b *bench) steps(id string) (steps []trace.Step, causes []trace.Cause) {
	for _, record := range b.traced {
		if record.Event != id {
			continue
		}
		causes = append(causes, record.Cause)
		for _, hop := range record.Hops {
			steps = append(steps, hop.Step)
		}
	}
	return steps, causes
}

func TestAnEventThatGoesWellIsNotTracedUnlessItIsChosen(t *testing.T) {
	t.Parallel()
	for sample, want := range map[int][]trace.Step{
		never: nil, 0: nil,
		1: {trace.Published, trace.Stored, trace.Forwarded, trace.Received, trace.Written, trace.Acknowledged},
	} {
		b := live(t, sampling(sample))
		b.arrives(10, fresh(11, func(e *event.Event) { e.Timestamp = "2026-01-02T03:04:05.678Z" }))
		b.write()
		require.Equal(t, 1, b.ack("e11"))
		steps, _ := b.steps("e11")
		require.Equal(t, want, steps, "one of %d", sample)
	}
	b := live(t, sampling(1))
	b.arrives(10, fresh(11))
	b.write()
	require.Len(t, b.traced, 1)
	record := b.traced[0]
	require.Equal(t, "router-1", record.Hops[1].Node)
	require.Equal(t, "d", record.Hops[3].Daemon)
	require.Equal(t, []any{event.Partition(3), string(epoch), uint64(11)}, []any{record.Partition, record.Epoch, record.Sequence})
}

// The way before is told as well, though nobody knew then that it would be asked for.
func TestAnEventThatIsNotAcknowledgedIsTracedFromItsBeginning(t *testing.T) {
	t.Parallel()
	cfg := sampling(never)
	cfg.MaxVainTries = 2
	b := live(t, cfg)
	b.arrives(10, fresh(11))
	b.write()
	require.Empty(t, b.traced)
	b.after(30 * time.Second)
	b.write()
	b.after(30 * time.Second)
	require.NotNil(t, b.dead)
	b.s.DeadLettered(b.dead.Run, 11, true, b.now)
	b.take()
	steps, causes := b.steps("e11")
	require.Equal(t, []trace.Step{
		trace.Stored, trace.Forwarded, trace.Received, trace.Written, trace.Unacknowledged,
		trace.Written, trace.Unacknowledged, trace.DeadLettered,
	}, steps)
	require.Equal(t, []trace.Cause{trace.Failed, trace.Failed, trace.Failed, trace.Failed}, causes)
	last := b.traced[len(b.traced)-1].Hops[0]
	require.Equal(t, "tried in vain 2 times", last.Detail)
}

func TestAnEventThatIsSentAgainOrHasWaitedIsTraced(t *testing.T) {
	t.Parallel()
	b := started(t, sampling(never), cursor.Entry{Floor: 10, Sent: 11})
	b.answerLast(eventlog.Last{Sequence: 12, UpTo: 12})
	b.answerRead(0, fresh(11), at(12), fresh(13, noAck))
	b.write()
	steps, causes := b.steps("e11")
	require.Equal(t, []trace.Step{trace.Stored, trace.Read, trace.Written}, steps)
	require.Equal(t, []trace.Cause{trace.Repeated}, causes)
	require.Equal(t, "attach", b.traced[0].Hops[1].Detail)
	_, causes = b.steps("e12")
	require.Equal(t, []trace.Cause{trace.Waited}, causes)
	steps, _ = b.steps("e13")
	require.Empty(t, steps)
}

func TestWhatIsInHandWhenAConnectionBreaksIsTraced(t *testing.T) {
	t.Parallel()
	for _, broke := range []bool{true, false} {
		b := live(t, sampling(never))
		b.arrives(10, fresh(11))
		b.arrives(11, fresh(12))
		b.write()
		b.s.Unacknowledged("gone", broke, b.now)
		b.take()
		steps, _ := b.steps("e11")
		if broke {
			require.Equal(t, trace.Unacknowledged, steps[len(steps)-1], "the oldest, whose try was in vain")
		} else {
			require.Empty(t, steps, "a graceful end is no failure")
		}
		steps, _ = b.steps("e12")
		require.Empty(t, steps)
	}
}

func TestAnEventThatIsPassedOverIsTracedIfItIsChosen(t *testing.T) {
	t.Parallel()
	b := live(t, sampling(1))
	b.arrives(10, fresh(11, func(e *event.Event) { e.DaemonID = "other" }))
	steps, _ := b.steps("e11")
	require.Equal(t, []trace.Step{trace.Stored, trace.Forwarded, trace.Received, trace.PassedOver}, steps)
	require.Equal(t, "addressee", b.traced[0].Hops[3].Detail)
}

func TestAnEventInHandIsFoundByItsID(t *testing.T) {
	t.Parallel()
	b := live(t, sampling(never))
	b.arrives(10, fresh(11))
	require.Equal(t, []session.Held{{Sequence: 11}}, b.s.Find("e11"))
	b.write()
	require.Equal(t, []session.Held{{Sequence: 11, Written: b.now, InHand: true}}, b.s.Find("e11"))
	b.ack("e11")
	require.Empty(t, b.s.Find("e11"))
}

// nowhere is where sessions' spans go to here: what they are is in their records.
type nowhere struct{}

func (nowhere) Export(trace.Record) {}

// exporting is a session's configuration whose records become spans: of what its
// publisher has sampled, of one in so many of the rest, and of what fails.
func exporting(t testing.TB, one int) session.Config {
	t.Helper()
	cfg := sampling(one)
	sampler, err := tracing.NewSampler("parentbased_traceidratio", 1/float64(max(one, 1)))
	require.NoError(t, err)
	cfg.Trace.Export(nowhere{}, sampler)
	return cfg
}

var parent = tracing.Context{TraceID: tracing.TraceID{1}, Parent: tracing.SpanID{2}, State: "a=b", Sampled: true}

// in is an event that is traced.
func in(c *tracing.Context, m eventlog.Message) eventlog.Message {
	m.Trace = c
	return m
}

func TestWhatIsToldOfATracedEventFollowsWhatWasToldBefore(t *testing.T) {
	t.Parallel()
	b := live(t, exporting(t, never))
	b.arrives(10, in(&parent, fresh(11)))
	came := b.now
	b.after(time.Millisecond)
	b.write()
	wrote := b.now
	b.after(time.Millisecond)
	require.Equal(t, 1, b.ack("e11"))
	require.Len(t, b.traced, 2)
	written, acknowledged := b.traced[0], b.traced[1]
	require.Equal(t, []trace.Cause{trace.Sampled, trace.Sampled}, []trace.Cause{written.Cause, acknowledged.Cause}, "though no sample has it")
	require.Equal(t, &parent, written.Span.Context)
	require.True(t, came.Equal(written.Span.Began))
	require.NotZero(t, written.Span.ID)
	require.Equal(t, parent.After(written.Span.ID), acknowledged.Span.Context)
	require.True(t, wrote.Equal(acknowledged.Span.Began))
	require.NotEqual(t, written.Span.ID, acknowledged.Span.ID)
	require.Equal(t, tracing.SpanID{2}, parent.Parent, "others have it, too")
}

// The daemon is often faster than the edge's own word that the event was written.
func TestAnAckThatOvertakesTheReportOfTheWriteIsTracedBehindIt(t *testing.T) {
	t.Parallel()
	b := live(t, exporting(t, never))
	b.arrives(10, in(&parent, fresh(11)))
	require.Equal(t, 1, b.ack("e11"))
	b.write()
	steps, causes := b.steps("e11")
	require.Equal(t, []trace.Step{trace.Stored, trace.Forwarded, trace.Received, trace.Written, trace.Acknowledged}, steps)
	require.Equal(t, []trace.Cause{trace.Sampled, trace.Sampled}, causes)
	require.Equal(t, parent.After(b.traced[0].Span.ID), b.traced[1].Span.Context)
}

func TestAFailureOfAnEventThatNobodyHasChosenIsATraceOfItsOwn(t *testing.T) {
	t.Parallel()
	cfg := exporting(t, never)
	b := live(t, cfg)
	b.arrives(10, fresh(11))
	b.write()
	require.Empty(t, b.traced)
	b.after(30 * time.Second)
	b.write()
	b.ack("e11")
	require.Len(t, b.traced, 3)
	first := b.traced[0].Span
	require.Zero(t, first.Parent)
	require.Equal(t, tracing.IDOf(event.MessageID(cfg.Orchestrator, "e11")), first.TraceID)
	require.True(t, first.Late)
	for i, record := range b.traced[1:] {
		require.Equal(t, first.TraceID, record.Span.TraceID)
		require.Equal(t, b.traced[i].Span.ID, record.Span.Parent)
	}
}

func TestWithoutAnExporterNothingHasASpan(t *testing.T) {
	t.Parallel()
	b := live(t, sampling(1))
	b.arrives(10, fresh(11))
	b.write()
	require.Len(t, b.traced, 1)
	require.Nil(t, b.traced[0].Span)
}

func TestATracedEventThatIsPassedOverIsTold(t *testing.T) {
	t.Parallel()
	b := live(t, exporting(t, never))
	b.arrives(10, in(&parent, fresh(11, func(e *event.Event) { e.DaemonID = "other" })))
	require.Len(t, b.traced, 1)
	require.Equal(t, &parent, b.traced[0].Span.Context)
}

// What tracing costs a session: an event that is forwarded, written and acknowledged.
func BenchmarkTracing(b *testing.B) {
	for _, sample := range []int{0, 1000, 1} {
		b.Run(fmt.Sprintf("one of %d", sample), func(b *testing.B) {
			cfg := sampling(sample)
			if sample == 0 {
				cfg.Trace = nil
			}
			benchmarkTracing(b, cfg, 0)
		})
	}
	for _, sample := range []int{1000, 1} {
		b.Run(fmt.Sprintf("one of %d as spans", sample), func(b *testing.B) {
			benchmarkTracing(b, exporting(b, sample), uint64(sample))
		})
	}
}

// benchmarkTracing takes one event of so many that has a trace; 0: none has.
func benchmarkTracing(b *testing.B, cfg session.Config, every uint64) {
	cfg.WindowEvents = 100
	s, now := benchmarked(cfg)
	arrival := &trace.Arrival{At: now, Router: "router-1", Sent: now}
	m := fresh(11)
	b.ReportAllocs()
	for sequence := uint64(11); b.Loop(); sequence++ {
		m.Sequence, m.Trace = sequence, nil
		if every > 0 && sequence%every == 0 {
			m.Trace = &parent
		}
		c := session.NewCandidate(m)
		c.Came(arrival)
		s.Forwarded(epoch, c, sequence-1, now)
		for _, e := range s.Take() {
			if send, ok := e.(session.Send); ok {
				s.Written(send.Run, send.Position.Sequence, now)
			}
		}
		s.Take()
		s.Ack([]string{"e11"}, now)
		s.Take()
	}
}

// benchmarked is a session that has considered all up to sequence 10.
func benchmarked(cfg session.Config) (*session.Session, time.Time) {
	s, now := session.New(cfg), time.Unix(1000, 0)
	s.Subscribe([]protocol.Subscription{{Pattern: protocol.AllEvents}}, now)
	now = now.Add(50 * time.Millisecond)
	s.Tick(now)
	for _, e := range s.Take() {
		if begin, ok := e.(session.Begin); ok {
			s.Started(begin.Run, epoch, cursor.Entry{Floor: 10}, false, now)
		}
	}
	for _, e := range s.Take() {
		if ask, ok := e.(session.AskLast); ok {
			s.LastKnown(ask.Run, eventlog.Last{Sequence: 8, UpTo: 10}, now)
		}
	}
	s.Take()
	return s, now
}
