package bridge

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/pkg/event"
)

type metrics struct {
	received   prometheus.Counter
	published  prometheus.Counter
	duplicates prometheus.Counter
	retries    prometheus.Counter
	rejected   *prometheus.CounterVec
	dropped    prometheus.Counter
	gaps       prometheus.Counter
	canaries   *prometheus.CounterVec
	drained    *prometheus.CounterVec
	unresolved *prometheus.CounterVec
	released   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	m := &metrics{
		received:   counter("gateway_bridge_received_total", "Messages heard on Redis."),
		published:  counter("gateway_bridge_published_total", "Events that this bridge was the first to store in the log."),
		duplicates: counter("gateway_bridge_duplicates_total", "Events that the log, or DAEMON_UNRESOLVED, had already, mostly through another bridge."),
		retries:    counter("gateway_bridge_retries_total", "Publishes, dead letters and lookups that failed and were tried again."),
		dropped:    counter("gateway_bridge_dropped_total", "Messages lost: the oldest of a full buffer, and what a stop could not wait for."),
		gaps:       counter("gateway_bridge_gaps_total", "Subscriptions on Redis after the first: what was published before each may not have been heard."),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_bridge_rejected_total",
			Help: "Messages that go to the dead letters instead of the log.",
		}, []string{"reason"}),
	}
	m.canaries = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_canary_published_total",
		Help: "Canaries of this bridge that it has stored in the log (success), or could not bring there (error).",
	}, []string{"status"})
	m.drained = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_bridge_drained_total",
		Help: "Elements of Neolith's lists that are in the log (stored), were there already (duplicate), wait for their addressee to be known (waiting), or are in the dead letters (rejected).",
	}, []string{"outcome"})
	m.unresolved = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_bridge_unresolved_total",
		Help: "Events that this bridge was the first to put into DAEMON_UNRESOLVED: no such orchestrator (unknown), PostgreSQL could not be asked (unavailable), or older events of the addressee wait there (behind).",
	}, []string{"cause"})
	m.released = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_bridge_released_total",
		Help: "Events out of DAEMON_UNRESOLVED that are in the log (stored), were there already (duplicate), or are in the dead letters (rejected).",
	}, []string{"outcome"})
	reg.MustRegister(m.rejected, m.canaries, m.drained, m.unresolved, m.released)
	for _, c := range causes {
		m.unresolved.WithLabelValues(string(c))
	}
	for _, o := range []outcome{outcomeStored, outcomeDuplicate, outcomeRejected} {
		m.released.WithLabelValues(string(o))
	}
	for _, o := range outcomes {
		m.drained.WithLabelValues(string(o))
	}
	for _, status := range []string{statusSuccess, statusError} {
		m.canaries.WithLabelValues(status)
	}
	for _, r := range rejectReasons {
		m.rejected.WithLabelValues(string(r))
	}
	return m
}

// reject counts a message that goes to the dead letters.
func (m *metrics) reject(r event.Reason) { m.rejected.WithLabelValues(string(r)).Inc() }

// kept counts an event that was put into DAEMON_UNRESOLVED.
func (m *metrics) kept(why cause, duplicate bool) {
	if duplicate {
		m.duplicates.Inc()
		return
	}
	m.unresolved.WithLabelValues(string(why)).Inc()
}

const (
	statusSuccess = "success"
	statusError   = "error"
)

// canary counts what has become of one.
func (m *metrics) canary(err error) {
	status := statusSuccess
	if err != nil {
		status = statusError
	}
	m.canaries.WithLabelValues(status).Inc()
}

// watchLink registers what is read off the subscription at each scrape.
func watchLink(reg prometheus.Registerer, l *link) {
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gateway_bridge_connected",
			Help: "Whether the subscription on Redis is complete.",
		}, func() float64 { return asNumber(l.state().connected) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gateway_redis_up",
			Help: "Whether Redis answers.",
		}, func() float64 { return asNumber(l.state().answers) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "gateway_bridge_disconnected_seconds_total",
			Help: "Time without a complete subscription on Redis, since the start.",
		}, func() float64 { return l.disconnected(time.Now()).Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gateway_bridge_last_message_timestamp_seconds",
			Help: "When the last message was heard on Redis, in Unix time; 0 if none has been.",
		}, func() float64 {
			if last := l.state().lastMessage; !last.IsZero() {
				return float64(last.UnixMilli()) / 1e3
			}
			return 0
		}),
	)
}

// watchBuffer registers the depth of the buffer, read at each scrape, and what
// it is to be compared with.
func watchBuffer(reg prometheus.Registerer, held func() int, limit int) {
	most := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gateway_bridge_buffer_limit_events",
		Help: "Messages that may be held (PUBLISH_BUFFER).",
	})
	most.Set(float64(limit))
	reg.MustRegister(most, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_bridge_buffer_events",
		Help: "Messages held, those being published included.",
	}, func() float64 { return float64(held()) }))
}

func asNumber(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
