package eventlog_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// BenchmarkStorage tells what NATS keeps of the log: bytes of a partition's
// limit for an event of 420 bytes; bytes of heap for each right after it was
// stored, and more while the duplicate window lasts; and for each orchestrator
// that has events, minutes later. It takes three minutes, with -benchtime 1x.
func BenchmarkStorage(b *testing.B) {
	const (
		orchestrators = 100_000
		events        = 2 * orchestrators
		// forgotten is when NATS has let go of all that it can read again.
		forgotten = 150 * time.Second
	)
	measure := func(window, wait time.Duration) (fresh, later, stored float64) {
		s := testserver.NATS(b)
		js := s.JetStream()
		cfg := config(func(c *eventlog.Config) { c.Partitions, c.DuplicateWindow = 1, window })
		_, err := eventlog.Open(b.Context(), js, cfg, quiet(), prometheus.NewRegistry())
		require.NoError(b, err)
		start := heap()
		publishInTurn(b, js, orchestrators, events)
		fresh = heap() - start
		<-time.After(wait)
		later = heap() - start
		stream, err := js.Stream(b.Context(), event.StreamName(0))
		require.NoError(b, err)
		state := stream.CachedInfo().State
		s.Shutdown()
		return fresh, later, float64(state.Bytes) / float64(state.Msgs)
	}
	for b.Loop() {
		// The shortest window is over as soon as the last event is stored.
		fresh, later, stored := measure(100*time.Millisecond, forgotten)
		remembered, _, _ := measure(time.Hour, 0)
		b.ReportMetric(stored, "disk-bytes/event")
		b.ReportMetric(fresh/events, "heap-bytes/new-event")
		b.ReportMetric((remembered-fresh)/events, "heap-bytes/event-in-window")
		b.ReportMetric(later/orchestrators, "heap-bytes/orchestrator")
	}
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// publishInTurn stores events of 420 bytes for so many orchestrators.
func publishInTurn(b *testing.B, js jetstream.JetStream, orchestrators, events int) {
	b.Helper()
	const atOnce = 500
	body := []byte(strings.Repeat("x", 420))
	for i := range events {
		token := event.Token(fmt.Sprintf("clx%022d", i%orchestrators))
		msg := nats.NewMsg(event.Subject(0, token))
		msg.Header.Set(nats.MsgIdHdr, event.MessageID(token, fmt.Sprintf("event_1732291200000_%036d", i)))
		msg.Data = body
		_, err := js.PublishMsgAsync(msg)
		require.NoError(b, err)
		if (i+1)%atOnce == 0 {
			<-js.PublishAsyncComplete()
		}
	}
}
