package cursor

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// BenchmarkStart is what the start of a connection costs, NATS included, while so
// many come a second, each of an orchestrator of its own. Run it with
// -benchtime 5000x.
func BenchmarkStart(b *testing.B) {
	for _, rate := range []int{1000, 2500, 10000} {
		b.Run(fmt.Sprintf("rate=%d", rate), func(b *testing.B) { benchmarkStart(b, rate) })
	}
}

func benchmarkStart(b *testing.B, rate int) {
	s := openStore(b, testserver.NATS(b), 16, "edge")
	var next, waited atomic.Int64
	var starting sync.WaitGroup
	used := processorTime(b)
	b.ReportAllocs()
	b.ResetTimer()
	began := time.Now()
	for range 256 {
		starting.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				due := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
				lifecycle.Sleep(b.Context(), time.Until(due))
				if _, err := newSeat(s, event.Token(fmt.Sprint("vp-", i)), "d").begin(b.Context()); err != nil {
					b.Error(err)
					return
				}
				waited.Add(int64(time.Since(due)))
			}
		})
	}
	starting.Wait()
	b.StopTimer()
	n := float64(b.N)
	b.ReportMetric(float64((processorTime(b)-used).Microseconds())/n, "µs-cpu/start")
	b.ReportMetric(testutil.ToFloat64(s.metrics.reads.Of(statusOK))/n, "reads/start")
	b.ReportMetric(float64(waited.Load())/n/1e6, "ms-latency")
}
