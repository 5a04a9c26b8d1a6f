package edge

import (
	"maps"
	"slices"

	"github.com/neolith/daemon-gateway/internal/metric"
)

// watchDoor registers what is read off the connections at each scrape, and what
// their number is to be compared with.
func (m *metrics) watchDoor(d *door) {
	metric.Gauge(m.registry, "gateway_connections_limit", "Connections that this edge takes (MAX_CONNECTIONS).").
		Set(float64(d.cfg.Listen.MaxConnections))
	metric.GaugeFunc(m.registry, "gateway_edge_unsettled_events",
		"Events that connections of this edge have taken in hand and that are not settled, most of them for want of an acknowledgement.",
		nil, func() float64 { return float64(d.unsettled()) })
}

// watchRegistrar registers how many connections still have to be looked up.
func (m *metrics) watchRegistrar(r *registrar) {
	metric.GaugeFunc(m.registry, "gateway_edge_unconfirmed_connections",
		"Connections that were admitted on their token alone, because PostgreSQL could not be asked, and have not been looked up since.",
		nil, func() float64 { return float64(r.countUnconfirmed()) })
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
