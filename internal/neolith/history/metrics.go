package history

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	written prometheus.Counter
	dropped prometheus.Counter
	deleted prometheus.Counter
	errors  prometheus.Counter
	seconds prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, waiting func() int) *metrics {
	f := promauto.With(reg)
	one := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_history_waiting", Help: "Sessions that wait to be written to the history.",
	}, func() float64 { return float64(waiting()) })
	return &metrics{
		written: one("gateway_history_written_total", "States of sessions written to the history."),
		dropped: one("gateway_history_dropped_total", "States of sessions forgotten because PostgreSQL was away for too long."),
		deleted: one("gateway_history_deleted_total", "Sessions that this node has deleted because they were over the retention."),
		errors:  one("gateway_history_errors_total", "Transactions of the history that PostgreSQL did not carry out."),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "gateway_history_write_seconds", Help: "Time for one batch.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
	}
}
