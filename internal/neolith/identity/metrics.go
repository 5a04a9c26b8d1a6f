package identity

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
)

// result says how a lookup was answered. The values are a closed set.
type result string

const (
	hit         result = "hit"         // remembered
	negative    result = "negative"    // remembered that there is none, or no possible id
	found       result = "found"       // asked
	unknown     result = "unknown"     // asked, there is none
	stale       result = "stale"       // remembered for long, since nobody could be asked
	unavailable result = "unavailable" // not remembered, and nobody could be asked
)

type metrics struct {
	lookups metric.Counters[result]
	batch   prometheus.Histogram
	seconds prometheus.Histogram
	errors  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, remembered func() float64) *metrics {
	metric.GaugeFunc(reg, "gateway_identity_remembered", "Identities in the cache.", nil, remembered)
	return &metrics{
		lookups: metric.By(reg, "gateway_identity_lookups_total",
			"Lookups of orchestrators by how they were answered: from the cache (hit, negative), by asking PostgreSQL (found, unknown), or without it (stale, unavailable).",
			"result", hit, negative, found, unknown, stale, unavailable),
		batch: metric.Histogram(reg, "gateway_identity_batch_size", "Ids that PostgreSQL was asked for in one query.",
			[]float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}),
		seconds: metric.Histogram(reg, "gateway_identity_query_seconds", "Time that a query for ids took, failed ones as well.",
			[]float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2}),
		errors: metric.Counter(reg, "gateway_identity_query_errors_total", "Queries for ids that failed."),
	}
}

func (m *metrics) count(r result) { m.lookups.Of(r).Inc() }

func (m *metrics) queried(ids int, took time.Duration, err error) {
	m.batch.Observe(float64(ids))
	m.seconds.Observe(took.Seconds())
	if err != nil {
		m.errors.Inc()
	}
}
