package eventlog_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// keptTrace stores a record, also where a slow machine takes longer than it may.
func keptTrace(t *testing.T, l *eventlog.Log, id, record string) {
	t.Helper()
	require.Eventually(t, func() bool { return keepTrace(t, l, id, record) == nil }, waitTime, time.Millisecond)
}

// keepTrace stores a record and returns what came of it.
func keepTrace(t *testing.T, l *eventlog.Log, id, record string) error {
	t.Helper()
	stored := make(chan error, 1)
	l.KeepTrace(t.Context(), "o", id, []byte(record), func(err error) { stored <- err })
	return <-stored
}

func TestTracesAreKeptForADayByOrchestratorAndEvent(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t).JetStream()
	l := open(t, js, config())
	for _, record := range []string{"first", "second"} {
		keptTrace(t, l, "e.1", record)
	}
	stream, err := js.Stream(t.Context(), eventlog.TraceStream)
	require.NoError(t, err)
	cfg := stream.CachedInfo().Config
	require.Equal(t, 24*time.Hour, cfg.MaxAge)
	require.Equal(t, jetstream.DiscardOld, cfg.Discard, "a full stream refuses nothing")
	require.Equal(t, int64(128<<20), cfg.MaxBytes)
	require.GreaterOrEqual(t, stream.CachedInfo().State.Msgs, uint64(2))
	m, err := stream.GetLastMsgForSubject(t.Context(), "daemon.traces.o.e=2E1")
	require.NoError(t, err)
	require.Equal(t, "second", string(m.Data))
}

// Nothing waits for the stream of traces: an installation may not have it yet, or no
// room for it.
func TestTheLogWorksWithoutTraces(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t).JetStream()
	managed := open(t, js, config(), eventlog.Manage())
	require.NoError(t, js.DeleteStream(t.Context(), eventlog.TraceStream))
	unmanaged := open(t, js, config(), eventlog.Unmanaged())
	publish(t, unmanaged, "o", "e", "x")
	require.ErrorIs(t, keepTrace(t, unmanaged, "e", "x"), eventlog.ErrUnavailable)
	_, err := js.Stream(t.Context(), eventlog.TraceStream)
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	require.Error(t, keepTrace(t, managed, "e", "x"), "that one is lost")
	keptTrace(t, managed, "e", "x") // and the stream is there again
}

// Where nobody exports spans there is nothing about them in the log, and nothing is read
// of what publishers have put there.
func TestEventsComeWithTheirTraceWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t).JetStream()
	sampler, err := tracing.NewSampler("parentbased_always_on", 1)
	require.NoError(t, err)
	off, on := open(t, js, config()), open(t, js, config(), eventlog.ReadTraces(sampler))
	c, ok := tracing.Parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1")
	require.True(t, ok)
	token := tokensOf(off, 0, 1)[0]
	stream, err := js.Stream(t.Context(), event.StreamName(0))
	require.NoError(t, err)
	for n, l := range []*eventlog.Log{off, on} {
		ack, err := l.Publish(tracing.With(t.Context(), &c), token, fmt.Sprint(n), []byte("x"))
		require.NoError(t, err)
		m, err := stream.GetMsg(t.Context(), ack.Sequence)
		require.NoError(t, err)
		want := []string{"", ""}
		if l == on {
			want = []string{c.Traceparent(), "vendor=1"}
		}
		require.Equal(t, want, []string{m.Header.Get("traceparent"), m.Header.Get("tracestate")})
		require.Nil(t, read(t, off, token, ack.Sequence, 1, 1<<20).Messages[0].Trace)
		found := read(t, on, token, ack.Sequence, 1, 1<<20).Messages[0].Trace
		if l == on {
			require.Equal(t, &c, found)
		} else {
			require.Equal(t, tracing.IDOf(event.MessageID(token, "0")), found.TraceID, "nobody has said anything of it")
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var followed []*tracing.Context
	require.NoError(t, on.Follow(ctx, 0, 1, func(m eventlog.Message) error {
		if m.Token == token {
			followed = append(followed, m.Trace)
		}
		if len(followed) == 2 {
			stop()
		}
		return nil
	}))
	require.Len(t, followed, 2)
	require.Equal(t, &c, followed[1])
}
