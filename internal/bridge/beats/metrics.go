package beats

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
)

// outcome is what became of a heartbeat: a closed set of labels.
type outcome string

const (
	written    outcome = "written"
	superseded outcome = "superseded" // Redis had it, or a newer one, when it was tried again
	stale      outcome = "stale"      // it had waited for too long
	overflow   outcome = "overflow"   // there was no room to wait
	refused    outcome = "refused"    // Redis will never take it
	malformed  outcome = "malformed"  // not a heartbeat, or a whole batch that is none
)

var outcomes = []outcome{written, superseded, stale, overflow, refused, malformed}

type metrics struct {
	beats  metric.Counters[outcome]
	errors prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, waiting func() int) *metrics {
	metric.GaugeFunc(reg, "gateway_bridge_heartbeats_waiting", "Heartbeats that wait to be written to Redis.", nil,
		func() float64 { return float64(waiting()) })
	return &metrics{
		beats: metric.By(reg, "gateway_bridge_heartbeats_total", "Heartbeats of daemons that came to this bridge, by what became of them.",
			"outcome", outcomes...),
		errors: metric.Counter(reg, "gateway_bridge_heartbeat_errors_total", "Pipelines of heartbeats that Redis did not carry out."),
	}
}

func (m *metrics) count(o outcome, n int) { m.beats.Of(o).Add(float64(n)) }
