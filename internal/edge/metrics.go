package edge

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// connectionState is how far a connection has come: a closed set of labels.
type connectionState string

const (
	stateConnected     connectionState = "connected" // not yet authenticated
	stateAuthenticated connectionState = "authenticated"
	stateSubscribed    connectionState = "subscribed"
)

// eventOutcome is what happened to an event on a connection.
type eventOutcome string

const (
	outcomeSent         eventOutcome = "sent"
	outcomeRedelivered  eventOutcome = "redelivered"
	outcomeAcked        eventOutcome = "acked"
	outcomeDeadLettered eventOutcome = "dead_lettered"
	outcomeWithheld     eventOutcome = "withheld" // the scopes do not allow it
)

// refusedConnect is why a connection or an upgrade was refused.
type refusedConnect string

const (
	refusedNotReady refusedConnect = "not_ready"
	refusedAddress  refusedConnect = refusedConnect(access.RefusedAddress)
	refusedRate     refusedConnect = "rate"
	refusedFull     refusedConnect = "full"
	// refusedConnections and refusedUnauthenticated are closed without an answer
	// where they come by no proxy.
	refusedConnections     refusedConnect = refusedConnect(access.RefusedConnections)
	refusedUnauthenticated refusedConnect = refusedConnect(access.RefusedUnauthenticated)
)

// terminated is why the cluster ended a connection.
type terminated string

const (
	terminatedTakeover terminated = "takeover"
	terminatedLimit    terminated = "limit"
	terminatedSilent   terminated = "silent"
	terminatedFight    terminated = "fight" // too many takeovers, the newcomer waits
	terminatedRevoked  terminated = "revoked"
	terminatedAddress  terminated = "address" // its orchestrator may not come from there any more
	terminatedOperator terminated = "operator"
)

// maxConnections is a reason for a refused authentication beside those of
// package auth.
const maxConnections auth.Reason = "max_connections"

// otherCode stands for close codes that are not of the protocol.
const otherCode = "other"

// batchResult is what a batch of a router's turned out to be.
type batchResult string

const (
	batchOK        batchResult = "ok"
	batchMalformed batchResult = "malformed"
	// batchNewer counts, beside its result, a batch with items that only newer
	// versions know.
	batchNewer batchResult = "newer"
)

// metrics are an edge's own. Those named ws_* are what Neolith's dashboards read.
type metrics struct {
	registry prometheus.Registerer // for what is registered once its subject is there

	connections     *prometheus.GaugeVec
	refused         metric.Counters[refusedConnect]
	attaches        prometheus.Counter
	attachSeconds   prometheus.Histogram
	closes          *prometheus.CounterVec
	authFailures    metric.Counters[auth.Reason]
	terminations    metric.Counters[terminated]
	events          metric.Counters[eventOutcome]
	filtered        metric.Counters[session.FilterReason]
	deliverySeconds prometheus.Histogram
	catchUps        metric.Counters[session.Cause]
	windowsFull     prometheus.Counter
	batches         metric.Counters[batchResult]
	forwarded       prometheus.Counter
	hints           prometheus.Counter
	leftOut         metric.Counters[string]
	rateLimited     prometheus.Counter
	shed            prometheus.Counter
	evictions       prometheus.Counter
	requests        *prometheus.CounterVec
	canarySeconds   prometheus.Histogram
	canaryReceived  prometheus.Gauge

	wsConnections *prometheus.GaugeVec
	wsEvents      metric.Counters[string] // that succeeded, by type
	wsFailed      metric.Counters[string]
	wsLatency     prometheus.Histogram
}

// wsTypes are the values of the label type of ws_events_total.
var wsTypes = []string{"routed", "queued", "acked", "redelivered", "dead_lettered", "filtered"}

func newMetrics(reg prometheus.Registerer) *metrics {
	wsEvents := metric.CounterVec(reg, "ws_events_total", "Events by what happened to them.", "type", "status")
	m := &metrics{
		registry:    reg,
		connections: metric.GaugeVec(reg, "gateway_connections", "Connections by how far they have come.", "state"),
		refused: metric.By(reg, "gateway_edge_connects_refused_total", "Connections and upgrades refused, by reason.",
			"reason", refusedNotReady, refusedAddress, refusedRate, refusedFull, refusedConnections, refusedUnauthenticated),
		attaches: metric.Counter(reg, "gateway_edge_attaches_total", "Connections whose first subscribe has taken effect."),
		attachSeconds: metric.Histogram(reg, "gateway_edge_attach_seconds", "From a connection's first subscribe, settled, to its subscribed message.",
			[]float64{0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}),
		closes: metric.CounterVec(reg, "gateway_edge_closes_total", "Connections ended, by close code.", "code"),
		authFailures: metric.By(reg, "gateway_edge_auth_failures_total", "Refused authentications, by reason.",
			"reason", append(auth.Reasons(), maxConnections)...),
		terminations: metric.By(reg, "gateway_edge_terminations_total", "Connections ended for another's sake, or by an operator, by reason.",
			"reason", terminatedTakeover, terminatedLimit, terminatedSilent, terminatedFight, terminatedRevoked, terminatedAddress, terminatedOperator),
		events: metric.By(reg, "gateway_edge_events_total", "What happened to events on connections.",
			"outcome", outcomeSent, outcomeRedelivered, outcomeAcked, outcomeDeadLettered, outcomeWithheld),
		filtered: metric.By(reg, "gateway_edge_events_filtered_total", "Events settled without being sent, by reason.",
			"reason", session.FilterReasons...),
		deliverySeconds: metric.Histogram(reg, "gateway_edge_delivery_seconds",
			"From the event's time in the log to the write on the socket, of first sends of events published while the daemon was connected.",
			[]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60}),
		catchUps:    metric.By(reg, "gateway_edge_catchups_total", "Reads of the log by connections, by cause.", "cause", session.Causes...),
		windowsFull: metric.Counter(reg, "gateway_edge_windows_full_total", "How often a connection had as many unacknowledged events as it may."),
		batches:     metric.By(reg, "gateway_edge_batches_total", "Batches received from routers.", "result", batchOK, batchMalformed, batchNewer),
		forwarded:   metric.Counter(reg, "gateway_edge_forwarded_events_total", "Events received from routers."),
		hints:       metric.Counter(reg, "gateway_edge_hints_total", "Hints received from routers."),
		leftOut: metric.By(reg, "gateway_edge_message_fields_left_out_total",
			"Optional fields of daemons' messages that could not be used; the messages counted.", "field", protocol.Optional...),
		rateLimited: metric.Counter(reg, "gateway_edge_rate_limited_total", "Messages of daemons not carried out because they were over a limit."),
		shed:        metric.Counter(reg, "gateway_edge_shed_total", "Connections sent away because this edge held more than its share."),
		evictions: metric.Counter(reg, "gateway_edge_evictions_suspected_total",
			"Reads that found as many events of an orchestrator as the log keeps of one: older ones may have left it undelivered."),
		requests: metric.CounterVec(reg, "gateway_edge_http_requests_total", "Requests for events by HTTP, by method and status.", "method", "status"),
		canarySeconds: metric.Histogram(reg, "gateway_canary_latency_seconds",
			"From this edge's call for a canary to its arrival here: NATS, a bridge, Redis, the log and a router lie between.",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60}),
		canaryReceived: metric.Gauge(reg, "gateway_canary_last_received_timestamp_seconds",
			"When the last canary arrived, in Unix time; if none has, when this edge started."),
		wsConnections: metric.GaugeVec(reg, "ws_connections_total", "Connections by state.", "state"),
		wsEvents:      metric.CountersOf(wsEvents.MustCurryWith(prometheus.Labels{"status": "success"}), wsTypes...),
		wsFailed:      metric.CountersOf(wsEvents.MustCurryWith(prometheus.Labels{"status": "error"}), wsTypes...),
		wsLatency: metric.Histogram(reg, "ws_event_latency_seconds", "From the event's time in the log to the write on the socket.",
			[]float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1}),
	}
	m.canaryReceived.SetToCurrentTime()
	m.zero()
	return m
}

// zero creates the series of the labels that are no closed set of one type.
func (m *metrics) zero() {
	for _, s := range []connectionState{stateConnected, stateAuthenticated, stateSubscribed} {
		m.connections.WithLabelValues(string(s))
		m.wsConnections.WithLabelValues(string(legacyState(s)))
	}
	for _, method := range requestMethods {
		for _, status := range requestStatuses {
			m.requests.WithLabelValues(method, strconv.Itoa(status))
		}
	}
}

// legacyState maps to the states that the old dashboards know, in which a
// subscribed connection is an authenticated one.
func legacyState(s connectionState) connectionState {
	if s == stateSubscribed {
		return stateAuthenticated
	}
	return s
}

// moved counts a connection's step from one state to the next; "" is outside.
func (m *metrics) moved(from, to connectionState) {
	step(m.connections, from, to)
	if legacyState(from) != legacyState(to) {
		step(m.wsConnections, legacyState(from), legacyState(to))
	}
}

func step(gauge *prometheus.GaugeVec, from, to connectionState) {
	if from != "" {
		gauge.WithLabelValues(string(from)).Dec()
	}
	if to != "" {
		gauge.WithLabelValues(string(to)).Inc()
	}
}

func (m *metrics) closed(code int) {
	label := otherCode
	if c := protocol.CloseCode(code); c.Known() {
		label = c.String()
	}
	m.closes.WithLabelValues(label).Inc()
}

func (m *metrics) event(o eventOutcome, legacy string, n int) {
	m.events.Of(o).Add(float64(n))
	if legacy != "" {
		m.wsEvents.Of(legacy).Add(float64(n))
	}
}
