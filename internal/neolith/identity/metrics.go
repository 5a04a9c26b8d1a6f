package identity

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// result says how a lookup was answered. The values are a closed set.
type result int

const (
	hit         result = iota // remembered
	negative                  // remembered that there is none, or no possible id
	found                     // asked
	unknown                   // asked, there is none
	stale                     // remembered for long, since nobody could be asked
	unavailable               // not remembered, and nobody could be asked
	results
)

var resultNames = [results]string{"hit", "negative", "found", "unknown", "stale", "unavailable"}

type metrics struct {
	lookups [results]prometheus.Counter
	batch   prometheus.Histogram
	seconds prometheus.Histogram
	errors  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, remembered func() float64) *metrics {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_identity_lookups_total",
		Help: "Lookups of orchestrators by how they were answered: from the cache (hit, negative), by asking PostgreSQL (found, unknown), or without it (stale, unavailable).",
	}, []string{"result"})
	m := &metrics{
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gateway_identity_batch_size",
			Help:    "Ids that PostgreSQL was asked for in one query.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gateway_identity_query_seconds",
			Help:    "Time that a query for ids took, failed ones as well.",
			Buckets: []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2},
		}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_identity_query_errors_total",
			Help: "Queries for ids that failed.",
		}),
	}
	for r := range results {
		m.lookups[r] = lookups.WithLabelValues(resultNames[r])
	}
	reg.MustRegister(lookups, m.batch, m.seconds, m.errors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_identity_remembered",
		Help: "Identities in the cache.",
	}, remembered))
	return m
}

func (m *metrics) count(r result) { m.lookups[r].Inc() }

func (m *metrics) queried(ids int, took time.Duration, err error) {
	m.batch.Observe(float64(ids))
	m.seconds.Observe(took.Seconds())
	if err != nil {
		m.errors.Inc()
	}
}
