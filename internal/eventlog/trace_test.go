package eventlog_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
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
