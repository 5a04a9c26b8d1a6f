package history

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
)

type metrics struct {
	written prometheus.Counter
	dropped prometheus.Counter
	deleted prometheus.Counter
	errors  prometheus.Counter
	seconds prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, waiting func() int) *metrics {
	metric.GaugeFunc(reg, "gateway_history_waiting", "Sessions that wait to be written to the history.", nil,
		func() float64 { return float64(waiting()) })
	return &metrics{
		written: metric.Counter(reg, "gateway_history_written_total", "States of sessions written to the history."),
		dropped: metric.Counter(reg, "gateway_history_dropped_total", "States of sessions forgotten because PostgreSQL was away for too long."),
		deleted: metric.Counter(reg, "gateway_history_deleted_total", "Sessions that this node has deleted because they were over the retention."),
		errors:  metric.Counter(reg, "gateway_history_errors_total", "Transactions of the history that PostgreSQL did not carry out."),
		seconds: metric.Histogram(reg, "gateway_history_write_seconds", "Time for one batch.", prometheus.ExponentialBuckets(0.001, 2, 14)),
	}
}
