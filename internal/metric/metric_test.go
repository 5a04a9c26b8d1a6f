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

func TestANameIsTakenOnce(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	metric.Counter(reg, "twice_total", "Twice.")
	require.Panics(t, func() { metric.Gauge(reg, "twice_total", "Twice.") })
}
