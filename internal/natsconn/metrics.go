package natsconn

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
)

type metrics struct {
	reconnects  prometheus.Counter
	asyncErrors prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		reconnects: metric.Counter(reg, "gateway_nats_reconnects_total", "Connections to NATS after the first."),
		asyncErrors: metric.Counter(reg, "gateway_nats_async_errors_total",
			"Errors that NATS reported outside of any request, such as slow consumers and permission violations."),
	}
}

// watchConnection registers what is read off the connection at each scrape.
func watchConnection(reg prometheus.Registerer, c *Conn) {
	metric.GaugeFunc(reg, "gateway_nats_up", "Whether the connection to NATS is up.", nil,
		func() float64 { return metric.Truth(c.Up()) })
}
