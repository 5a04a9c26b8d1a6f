package intake

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/metric"
)

type metrics struct {
	requests     *prometheus.CounterVec
	events       metric.Counters[status]
	authFailures prometheus.Counter
	seconds      prometheus.Histogram
	refused      metric.Counters[access.Refusal]
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: metric.CounterVec(reg, "gateway_intake_requests_total",
			"Requests of the HTTP intake that were answered, by status code.", "code"),
		events:       metric.By(reg, "gateway_intake_events_total", "Events received over HTTP, by what has become of them.", "status", statuses...),
		authFailures: metric.Counter(reg, "gateway_intake_auth_failures_total", "Requests of the HTTP intake without a valid API key."),
		seconds: metric.Histogram(reg, "gateway_intake_request_seconds", "Time for a request, its body's arrival included.",
			prometheus.ExponentialBuckets(0.001, 2, 16)),
		refused: metric.By(reg, "gateway_intake_connects_refused_total", "Connections of publishers that were closed or refused, by reason.",
			"reason", access.Refusals...),
	}
	for _, code := range []int{200, 400, 401, 403, 413, 429, 503} {
		m.requests.WithLabelValues(strconv.Itoa(code))
	}
	return m
}
