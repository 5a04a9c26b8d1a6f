package cursor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
)

// status is how a request for cursors ended; a metric label, so a closed set.
type status string

const (
	statusOK       status = "ok"
	statusConflict status = "conflict"
	statusError    status = "error"
)

type metrics struct {
	reads     metric.Counters[status]
	writes    metric.Counters[status]
	conflicts prometheus.Counter
	malformed prometheus.Counter
	begin     prometheus.Histogram
}

// newMetrics registers the package's metrics; dirty is called at each scrape.
func newMetrics(reg prometheus.Registerer, dirty func() float64) *metrics {
	metric.GaugeFunc(reg, "gateway_cursor_dirty", "Orchestrators with cursors that are remembered here and not stored yet.", nil, dirty)
	return &metrics{
		reads: metric.By(reg, "gateway_cursor_reads_total",
			"Bulk reads of cursors; each is for all orchestrators of a partition that waited for it.", "status", statusOK, statusError),
		writes: metric.By(reg, "gateway_cursor_writes_total",
			"Writes of an orchestrator's cursors. conflict: another node was quicker, and the write was repeated onto its state.",
			"status", statusOK, statusConflict, statusError),
		conflicts: metric.Counter(reg, "gateway_cursor_conflicts_total",
			"Writes of cursors that found another node's write in between."),
		malformed: metric.Counter(reg, "gateway_cursor_malformed_total",
			"Stored cursors that could not be read; their daemons start from the oldest event."),
		begin: metric.Histogram(reg, "gateway_cursor_begin_duration_seconds",
			"Time from asking where a connection starts to the decision being stored.", prometheus.ExponentialBuckets(0.001, 2, 14)),
	}
}

func (m *metrics) read(err error) {
	s := statusOK
	if err != nil {
		s = statusError
	}
	m.reads.Of(s).Inc()
}

func (m *metrics) wrote(err error) {
	switch {
	case err == nil:
		m.writes.Of(statusOK).Inc()
	case isConflict(err):
		m.conflicts.Inc()
		m.writes.Of(statusConflict).Inc()
	default:
		m.writes.Of(statusError).Inc()
	}
}

func (m *metrics) began(start time.Time) { m.begin.Observe(time.Since(start).Seconds()) }
