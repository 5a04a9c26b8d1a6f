package beats

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// BenchmarkWrite writes heartbeats with a few metrics, each of another session.
func BenchmarkWrite(b *testing.B) {
	s := newSite(b)
	w := s.bridge(s.client())
	w.stop()
	beats := make([]heartbeat.Beat, 10_000)
	for i := range beats {
		beats[i] = someBeat(protocol.OrchestratorID(fmt.Sprintf("clx%022d", i)))
		beats[i].Metrics = protocol.Numbers(map[string]float64{
			"memoryUsageBytes": 123456789, "uptimeSeconds": 3600, "messagesSent": 12, "messagesReceived": 34, "errors": 0,
		})
	}
	count := 0
	for b.Loop() {
		for _, h := range beats {
			w.add(h, time.Now())
		}
		w.writeAll(b.Context())
		require.Zero(b, w.waiting.Len())
		count += len(beats)
	}
	b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "heartbeats/s")
}
