package intake

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests     *prometheus.CounterVec
	events       *prometheus.CounterVec
	authFailures prometheus.Counter
	seconds      prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_intake_requests_total", Help: "Requests of the HTTP intake that were answered, by status code.",
		}, []string{"code"}),
		events: f.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_intake_events_total", Help: "Events received over HTTP, by what has become of them.",
		}, []string{"status"}),
		authFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "gateway_intake_auth_failures_total", Help: "Requests of the HTTP intake without a valid API key.",
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "gateway_intake_request_seconds", Help: "Time for a request, its body's arrival included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
	}
	for _, s := range statuses {
		m.events.WithLabelValues(string(s))
	}
	for _, code := range []int{200, 400, 401, 413, 429, 503} {
		m.requests.WithLabelValues(strconv.Itoa(code))
	}
	return m
}
