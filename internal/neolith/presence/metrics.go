package presence

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	written *prometheus.CounterVec
	changed prometheus.Counter
	errors  prometheus.Counter
	lost    prometheus.Counter
	waiting prometheus.Gauge
	owned   prometheus.Gauge
	seconds prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		written: f.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_presence_written_total", Help: "Statuses of orchestrators handed to PostgreSQL.",
		}, []string{"status"}),
		changed: f.NewCounter(prometheus.CounterOpts{
			Name: "gateway_presence_changed_total", Help: "Rows of vps that had another status before.",
		}),
		errors: f.NewCounter(prometheus.CounterOpts{
			Name: "gateway_presence_errors_total", Help: "Loads and batches of presence that PostgreSQL did not carry out.",
		}),
		lost: f.NewCounter(prometheus.CounterOpts{
			Name: "gateway_presence_writers_replaced_total", Help: "Times that another router turned out to be the writer of a partition meanwhile.",
		}),
		waiting: f.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_presence_waiting", Help: "Statuses that wait to be written.",
		}),
		owned: f.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_presence_partitions", Help: "Partitions whose presence this router writes.",
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "gateway_presence_write_seconds", Help: "Time for one batch.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
	}
	for _, s := range []Status{Online, Away, Busy, Offline} {
		m.written.WithLabelValues(string(s))
	}
	return m
}
