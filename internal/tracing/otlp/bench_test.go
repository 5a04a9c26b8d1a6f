package otlp_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/internal/tracing/otlp"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// What spans cost a router or an edge for an event that it takes from the log: to find
// out whether it is traced, and of those that are to note it and to export the span.
func BenchmarkEvent(b *testing.B) {
	for _, one := range []int{0, 1000, 1} {
		name := "off"
		if one > 0 {
			name = fmt.Sprintf("one of %d", one)
		}
		b.Run(name, func(b *testing.B) {
			var sampler *tracing.Sampler
			recorder := trace.New(trace.Config{}, "edge", "edge-1", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			if one > 0 {
				n := exportOf(b, otlp.Config{Endpoint: settings.URL(testserver.NewCollector(b).URL)}, one)
				sampler = n.Sampler()
				recorder.Export(n, sampler)
			}
			ids := make([]string, 1<<14)
			for i := range ids {
				ids[i] = event.MessageID("orchestrator-1", fmt.Sprint("event_1732291200000_", i))
			}
			now := time.Now()
			b.ReportAllocs()
			for sequence := 0; b.Loop(); sequence++ {
				id := ids[sequence%len(ids)]
				c := sampler.Read(func(key string) string {
					if key == "id" {
						return id
					}
					return ""
				}, "id")
				cause := recorder.Choose("orchestrator-1", 3, uint64(sequence), c)
				if cause == trace.None {
					continue
				}
				span, _ := trace.NewSpan(c, now)
				recorder.Add(trace.Record{
					Cause: cause, Orchestrator: "orchestrator-1", Event: id, Partition: 3, Sequence: uint64(sequence), Span: span,
					Hops: []trace.Hop{{At: now, Step: trace.Stored, Tier: trace.TierLog}, {At: now, Step: trace.Written}},
				})
			}
		})
	}
}
