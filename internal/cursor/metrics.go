package cursor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// status is how a request for cursors ended; a metric label, so a closed set.
type status string

const (
	statusOK       status = "ok"
	statusConflict status = "conflict"
	statusError    status = "error"
)

type metrics struct {
	reads     *prometheus.CounterVec
	writes    *prometheus.CounterVec
	conflicts prometheus.Counter
	malformed prometheus.Counter
	begin     prometheus.Histogram
}

// newMetrics registers the package's metrics; dirty is called at each scrape.
func newMetrics(reg prometheus.Registerer, dirty func() float64) *metrics {
	m := &metrics{
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_cursor_reads_total",
			Help: "Bulk reads of cursors; each is for up to 1,000 orchestrators of a partition.",
		}, []string{"status"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_cursor_writes_total",
			Help: "Writes of an orchestrator's cursors. conflict: another node was quicker, and the write was repeated onto its state.",
		}, []string{"status"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_cursor_conflicts_total",
			Help: "Writes of cursors that found another node's write in between.",
		}),
		malformed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_cursor_malformed_total",
			Help: "Stored cursors that could not be read; their daemons start from the oldest event.",
		}),
		begin: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gateway_cursor_begin_duration_seconds",
			Help:    "Time from asking where a connection starts to the decision being stored.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
	}
	for _, s := range []status{statusOK, statusError} {
		m.reads.WithLabelValues(string(s))
	}
	for _, s := range []status{statusOK, statusConflict, statusError} {
		m.writes.WithLabelValues(string(s))
	}
	reg.MustRegister(m.reads, m.writes, m.conflicts, m.malformed, m.begin,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gateway_cursor_dirty",
			Help: "Orchestrators with cursors that are remembered here and not stored yet.",
		}, dirty))
	return m
}

func (m *metrics) read(err error) {
	s := statusOK
	if err != nil {
		s = statusError
	}
	m.reads.WithLabelValues(string(s)).Inc()
}

func (m *metrics) wrote(err error) {
	switch {
	case err == nil:
		m.writes.WithLabelValues(string(statusOK)).Inc()
	case isConflict(err):
		m.conflicts.Inc()
		m.writes.WithLabelValues(string(statusConflict)).Inc()
	default:
		m.writes.WithLabelValues(string(statusError)).Inc()
	}
}

func (m *metrics) began(start time.Time) { m.begin.Observe(time.Since(start).Seconds()) }
