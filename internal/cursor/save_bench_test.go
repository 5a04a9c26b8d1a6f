package cursor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// BenchmarkSave is what saving costs: how long an event takes into the log of the
// same NATS server while the acks of as many events are saved, or are not, and
// the processor time of all, NATS included. An event is due at its time whether
// those before it are done or not. Run it with -benchtime 10000x.
func BenchmarkSave(b *testing.B) {
	for _, load := range []struct {
		orchestrators, rate int
	}{{1000, 1000}, {1000, 5000}, {8000, 1000}} {
		for _, saves := range []bool{false, true, false, true} {
			b.Run(fmt.Sprintf("orchestrators=%d/rate=%d/saves=%t", load.orchestrators, load.rate, saves), func(b *testing.B) {
				benchmarkSave(b, load.orchestrators, load.rate, saves)
			})
		}
	}
}

func benchmarkSave(b *testing.B, orchestrators, rate int, saves bool) {
	s := openStore(b, testserver.NATS(b), 16, "edge")
	seats := make([]*seat, orchestrators)
	var connecting sync.WaitGroup
	for i := range seats {
		connecting.Go(func() { seats[i] = connect(b, s, event.Token(fmt.Sprintf("orchestrator-%d", i)), "daemon") })
	}
	connecting.Wait()
	if saves {
		run(b, s)
	}
	before := testutil.ToFloat64(s.metrics.writes.Of(statusOK))
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var publishing sync.WaitGroup
	used := processorTime(b)
	b.ResetTimer()
	start := time.Now()
	for range 256 {
		publishing.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
				lifecycle.Sleep(b.Context(), time.Until(due))
				c := seats[i%int64(orchestrators)]
				if _, err := s.log.Publish(b.Context(), c.token, fmt.Sprintf("%d-%d", i, rand.Uint64()), make([]byte, 420)); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(due)
				c.moves(uint64(i + 1))
			}
		})
	}
	publishing.Wait()
	b.StopTimer()
	if saves {
		require.NoError(b, s.FlushAll(b.Context()))
	}
	b.ReportMetric(float64((processorTime(b)-used).Microseconds())/float64(b.N), "µs-cpu/event")
	slices.Sort(took)
	b.ReportMetric(float64(took[b.N/2].Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(took[b.N*99/100].Microseconds())/1000, "ms-p99")
	b.ReportMetric((testutil.ToFloat64(s.metrics.writes.Of(statusOK))-before)/float64(b.N), "writes/event")
}

// processorTime is what the process has used so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkJournal is what as many cursors cost NATS and the writer where each is
// a message of its own, as they are stored, and where many of a partition are one
// message of a journal, which they are not. It measures the writing alone: what a
// start would have to read, and in which order, is not in it.
func BenchmarkJournal(b *testing.B) {
	const orchestrators, size = 4096, 260
	for _, together := range []int{1, 100} {
		b.Run(fmt.Sprintf("cursors=%d", together), func(b *testing.B) {
			s := openStore(b, testserver.NATS(b), 16, "edge")
			var writers errgroup.Group
			writers.SetLimit(16)
			used := processorTime(b)
			b.ResetTimer()
			for i := 0; i < b.N; i += together {
				writers.Go(func() error {
					subject := s.partitions[i%16].subject(event.Token(fmt.Sprintf("orchestrator-%d", i%orchestrators)))
					_, err := s.js.Publish(b.Context(), subject, make([]byte, size*together))
					return err
				})
			}
			require.NoError(b, writers.Wait())
			b.StopTimer()
			b.ReportMetric(float64((processorTime(b)-used).Nanoseconds())/1000/float64(b.N), "µs-cpu/cursor")
		})
	}
}
