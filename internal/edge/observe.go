package edge

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// watchDoor registers what is read off the connections at each scrape, and what
// their number is to be compared with.
func (m *metrics) watchDoor(d *door) {
	m.factory.NewGauge(prometheus.GaugeOpts{
		Name: "gateway_connections_limit", Help: "Connections that this edge takes (MAX_CONNECTIONS).",
	}).Set(float64(d.cfg.Listen.MaxConnections))
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_edge_unsettled_events",
		Help: "Events that connections of this edge have taken in hand and that are not settled, most of them for want of an acknowledgement.",
	}, func() float64 { return float64(d.unsettled()) })
}

// watchCertificate registers when the certificate in force expires.
func (m *metrics) watchCertificate(c *certificate) {
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_tls_certificate_not_after_timestamp_seconds",
		Help: "When the certificate that daemons are shown expires, in Unix time.",
	}, func() float64 { return float64(c.expiry().Unix()) })
}

// watchRegistrar registers how many connections still have to be looked up.
func (m *metrics) watchRegistrar(r *registrar) {
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_edge_unconfirmed_connections",
		Help: "Connections that were admitted on their token alone, because PostgreSQL could not be asked, and have not been looked up since.",
	}, func() float64 { return float64(r.countUnconfirmed()) })
}

// unsettled returns the events that all connections together have in hand.
func (d *door) unsettled() (events int) {
	d.mu.Lock()
	open := slices.Collect(maps.Keys(d.open))
	d.mu.Unlock()
	for _, c := range open {
		events += c.unsettled()
	}
	return events
}

func (c *connection) unsettled() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return 0
	}
	return c.session.Unsettled()
}
