package presence

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
)

type metrics struct {
	written metric.Counters[Status]
	changed prometheus.Counter
	// differed counts what somebody else has written.
	differed prometheus.Counter
	errors   prometheus.Counter
	lost     prometheus.Counter
	waiting  prometheus.Gauge
	owned    prometheus.Gauge
	seconds  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		written: metric.By(reg, "gateway_presence_written_total", "Statuses of orchestrators handed to PostgreSQL; of those who are GONE what PRESENCE_WHEN_GONE says is written.",
			"status", Online, Away, Busy, Gone),
		changed: metric.Counter(reg, "gateway_presence_changed_total", "Rows of vps that had another status before."),
		differed: metric.Counter(reg, "gateway_presence_differed_total",
			"Times that an orchestrator was shown otherwise than this router's partitions had written it: somebody else did."),
		errors: metric.Counter(reg, "gateway_presence_errors_total", "Loads and batches of presence that PostgreSQL did not carry out."),
		lost: metric.Counter(reg, "gateway_presence_writers_replaced_total",
			"Times that another router turned out to be the writer of a partition meanwhile."),
		waiting: metric.Gauge(reg, "gateway_presence_waiting", "Statuses that wait to be written."),
		owned:   metric.Gauge(reg, "gateway_presence_partitions", "Partitions whose presence this router writes."),
		seconds: metric.Histogram(reg, "gateway_presence_write_seconds", "Time for one batch.", prometheus.ExponentialBuckets(0.001, 2, 14)),
	}
}
