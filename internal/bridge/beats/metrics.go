package beats

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// outcome is what became of a heartbeat: a closed set of labels.
type outcome string

const (
	written    outcome = "written"
	superseded outcome = "superseded" // Redis had it, or a newer one, when it was tried again
	stale      outcome = "stale"      // it had waited for too long
	overflow   outcome = "overflow"   // there was no room to wait
	refused    outcome = "refused"    // Redis will never take it
	malformed  outcome = "malformed"  // a heartbeat, or a whole batch, that is none
)

var outcomes = []outcome{written, superseded, stale, overflow, refused, malformed}

type metrics struct {
	beats  *prometheus.CounterVec
	errors prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, waiting func() int) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		beats: f.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_bridge_heartbeats_total", Help: "Heartbeats of daemons that came to this bridge, by what became of them.",
		}, []string{"outcome"}),
		errors: f.NewCounter(prometheus.CounterOpts{
			Name: "gateway_bridge_heartbeat_errors_total", Help: "Pipelines of heartbeats that Redis did not carry out.",
		}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_bridge_heartbeats_waiting", Help: "Heartbeats that wait to be written to Redis.",
	}, func() float64 { return float64(waiting()) })
	for _, o := range outcomes {
		m.beats.WithLabelValues(string(o))
	}
	return m
}

func (m *metrics) count(o outcome, n int) { m.beats.WithLabelValues(string(o)).Add(float64(n)) }
