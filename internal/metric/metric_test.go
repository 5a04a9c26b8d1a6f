package metric_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/metric"
)

type fate string

const (
	kept fate = "kept"
	lost fate = "lost"
)

func TestEachValueHasItsSeriesFromTheStart(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	fates := metric.By(reg, "fates_total", "What became of them.", "fate", kept, lost)
	fates.Of(kept).Inc()
	fates.Of(kept).Add(2)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP fates_total What became of them.
# TYPE fates_total counter
fates_total{fate="kept"} 3
fates_total{fate="lost"} 0
`)))
}

func TestCountersOfAVectorWithOneLabelLeft(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	vec := metric.CounterVec(reg, "fates_total", "What became of them.", "fate", "where")
	here := metric.CountersOf(vec.MustCurryWith(prometheus.Labels{"where": "here"}), kept)
	here.Of(kept).Inc()
	here.Of(lost).Inc()
	vec.WithLabelValues("kept", "here").Inc()
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP fates_total What became of them.
# TYPE fates_total counter
fates_total{fate="kept",where="here"} 2
fates_total{fate="lost",where="here"} 1
`)))
}

func BenchmarkCounting(b *testing.B) {
	vec := metric.CounterVec(prometheus.NewRegistry(), "fates_total", "What became of them.", "fate", "where")
	here := metric.CountersOf(vec.MustCurryWith(prometheus.Labels{"where": "here"}), kept, lost)
	b.Run("by labels", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			vec.WithLabelValues(string(kept), "here").Inc()
		}
	})
	b.Run("Counters", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			here.Of(kept).Inc()
		}
	})
}

func TestANameIsTakenOnce(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	metric.Counter(reg, "twice_total", "Twice.")
	require.Panics(t, func() { metric.Gauge(reg, "twice_total", "Twice.") })
}
