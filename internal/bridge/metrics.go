package bridge

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/pkg/event"
)

type metrics struct {
	received   prometheus.Counter
	published  prometheus.Counter
	duplicates prometheus.Counter
	retries    prometheus.Counter
	rejected   metric.Counters[event.Reason]
	leftOut    metric.Counters[string]
	dropped    prometheus.Counter
	gaps       prometheus.Counter
	canaries   metric.Counters[status]
	drained    metric.Counters[outcome]
	drainLeft  prometheus.Gauge
	unresolved metric.Counters[cause]
	released   metric.Counters[outcome]

	revoked        prometheus.Counter
	revokedCurrent prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		received:   metric.Counter(reg, "gateway_bridge_received_total", "Messages heard on Redis."),
		published:  metric.Counter(reg, "gateway_bridge_published_total", "Events that this bridge was the first to store in the log."),
		duplicates: metric.Counter(reg, "gateway_bridge_duplicates_total", "Events that the log, or DAEMON_UNRESOLVED, had already, mostly through another bridge."),
		retries:    metric.Counter(reg, "gateway_bridge_retries_total", "Publishes, dead letters and lookups that failed and were tried again."),
		dropped:    metric.Counter(reg, "gateway_bridge_dropped_total", "Messages lost: the oldest of a full buffer, and what a stop could not wait for."),
		gaps:       metric.Counter(reg, "gateway_bridge_gaps_total", "Subscriptions on Redis after the first: what was published before each may not have been heard."),
		rejected: metric.By(reg, "gateway_bridge_rejected_total", "Messages that go to the dead letters instead of the log.",
			"reason", rejectReasons...),
		leftOut: metric.By(reg, "gateway_bridge_event_fields_left_out_total",
			"Optional fields of events that came to this bridge and could not be used; the events were taken.", "field", event.Optional...),
		canaries: metric.By(reg, "gateway_canary_published_total",
			"Canaries of this bridge that it has stored in the log (success), or could not bring there (error).",
			"status", statusSuccess, statusError),
		drained: metric.By(reg, "gateway_bridge_drained_total",
			"Elements of Neolith's lists that are in the log (stored), were there already (duplicate), or wait for their addressee to be known (waiting).",
			"outcome", outcomeStored, outcomeDuplicate, outcomeWaiting),
		drainLeft: metric.Gauge(reg, "gateway_bridge_drain_left_elements",
			"Elements of Neolith's lists that the last pass could not place and left where they are; the log names their lists."),
		unresolved: metric.By(reg, "gateway_bridge_unresolved_total",
			"Events that this bridge was the first to put into DAEMON_UNRESOLVED: no such orchestrator (unknown), PostgreSQL could not be asked (unavailable), or older events of the addressee wait there (behind).",
			"cause", causes...),
		released: metric.By(reg, "gateway_bridge_released_total",
			"Events out of DAEMON_UNRESOLVED that are in the log (stored), were there already (duplicate), or are in the dead letters (rejected).",
			"outcome", outcomeStored, outcomeDuplicate, outcomeRejected),
		revoked: metric.Counter(reg, "gateway_bridge_revocations_total",
			"Members of Neolith's set daemon:tokens:revoked that this bridge has passed on to the edges, or renewed."),
		revokedCurrent: metric.Gauge(reg, "gateway_bridge_revocations_current",
			"1 while that set is read and passed on, 0 while it cannot be."),
	}
}

// reject counts a message that goes to the dead letters.
func (m *metrics) reject(r event.Reason) { m.rejected.Of(r).Inc() }

// kept counts an event that was put into DAEMON_UNRESOLVED.
func (m *metrics) kept(why cause, duplicate bool) {
	if duplicate {
		m.duplicates.Inc()
		return
	}
	m.unresolved.Of(why).Inc()
}

// status is what has become of a canary.
type status string

const (
	statusSuccess status = "success"
	statusError   status = "error"
)

func (m *metrics) canary(err error) {
	if err != nil {
		m.canaries.Of(statusError).Inc()
		return
	}
	m.canaries.Of(statusSuccess).Inc()
}

// watchLink registers what is read off the subscription at each scrape.
func watchLink(reg prometheus.Registerer, l *link) {
	metric.GaugeFunc(reg, "gateway_bridge_connected", "Whether the subscription on Redis is complete.", nil,
		func() float64 { return metric.Truth(l.state().connected) })
	metric.GaugeFunc(reg, "gateway_redis_up", "Whether Redis answers, and with no error to a ping.", nil,
		func() float64 { return metric.Truth(l.state().works()) })
	metric.GaugeFunc(reg, "gateway_bridge_forbidden_subscriptions",
		"Of REDIS_CHANNELS and REDIS_PATTERNS, those that Redis forbids this bridge; what is published there is not heard.", nil,
		func() float64 { return float64(l.state().unheard.len()) })
	metric.CounterFunc(reg, "gateway_bridge_disconnected_seconds_total", "Time without a complete subscription on Redis, since the start.",
		func() float64 { return l.disconnected(time.Now()).Seconds() })
	metric.GaugeFunc(reg, "gateway_bridge_last_message_timestamp_seconds",
		"When the last message was heard on Redis, in Unix time; 0 if none has been.", nil, func() float64 {
			if last := l.state().lastMessage; !last.IsZero() {
				return float64(last.UnixMilli()) / 1e3
			}
			return 0
		})
}

// watchBuffer registers the depth of the buffer, read at each scrape, and what
// it is to be compared with.
func watchBuffer(reg prometheus.Registerer, held func() int, limit int) {
	metric.Gauge(reg, "gateway_bridge_buffer_limit_events", "Messages that may be held (PUBLISH_BUFFER).").Set(float64(limit))
	metric.GaugeFunc(reg, "gateway_bridge_buffer_events", "Messages held, those being published included.", nil,
		func() float64 { return float64(held()) })
}
