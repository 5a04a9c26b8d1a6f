package natsconn

import (
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reconnects  prometheus.Counter
	asyncErrors prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_nats_reconnects_total",
			Help: "Connections to NATS after the first.",
		}),
		asyncErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_nats_async_errors_total",
			Help: "Errors that NATS reported outside of any request, such as slow consumers and permission violations.",
		}),
	}
}

// register is a step of its own because the counters are used before there is
// a connection whose state the gauge could show.
func (m *metrics) register(reg prometheus.Registerer, c *Conn) {
	reg.MustRegister(m.reconnects, m.asyncErrors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_nats_up",
		Help: "Whether the connection to NATS is up.",
	}, func() float64 {
		if c.NC.Status() == nats.CONNECTED {
			return 1
		}
		return 0
	}))
}
