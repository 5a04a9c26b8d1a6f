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
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func tracing(sample int) session.Config {
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
		b := live(t, tracing(sample))
		b.arrives(10, fresh(11, func(e *event.Event) { e.Timestamp = "2026-01-02T03:04:05.678Z" }))
		b.write()
		require.Equal(t, 1, b.ack("e11"))
		steps, _ := b.steps("e11")
		require.Equal(t, want, steps, "one of %d", sample)
	}
	b := live(t, tracing(1))
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
	cfg := tracing(never)
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
	b := started(t, tracing(never), cursor.Entry{Floor: 10, Sent: 11})
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
		b := live(t, tracing(never))
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
	b := live(t, tracing(1))
	b.arrives(10, fresh(11, func(e *event.Event) { e.DaemonID = "other" }))
	steps, _ := b.steps("e11")
	require.Equal(t, []trace.Step{trace.Stored, trace.Forwarded, trace.Received, trace.PassedOver}, steps)
	require.Equal(t, "addressee", b.traced[0].Hops[3].Detail)
}

func TestAnEventInHandIsFoundByItsID(t *testing.T) {
	t.Parallel()
	b := live(t, tracing(never))
	b.arrives(10, fresh(11))
	require.Equal(t, []session.Held{{Sequence: 11}}, b.s.Find("e11"))
	b.write()
	require.Equal(t, []session.Held{{Sequence: 11, Written: b.now, InHand: true}}, b.s.Find("e11"))
	b.ack("e11")
	require.Empty(t, b.s.Find("e11"))
}

// What tracing costs a session: an event that is forwarded, written and acknowledged.
func BenchmarkTracing(b *testing.B) {
	for _, sample := range []int{0, 1000, 1} {
		b.Run(fmt.Sprintf("one of %d", sample), func(b *testing.B) {
			cfg := tracing(sample)
			if sample == 0 {
				cfg.Trace = nil
			}
			cfg.WindowEvents = 100
			s, now := benchmarked(cfg)
			arrival := &trace.Arrival{At: now, Router: "router-1", Sent: now}
			m := fresh(11)
			b.ReportAllocs()
			for sequence := uint64(11); b.Loop(); sequence++ {
				m.Sequence = sequence
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
		})
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
