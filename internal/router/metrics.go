package router

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// resetCause is why a partition's consumer was made anew.
type resetCause string

const (
	resetFailed resetCause = "failed"      // it ended with an error
	resetStood  resetCause = "stood_still" // it yielded nothing while the log grew
)

// replayCause is why a partition starts from its oldest retained event.
type replayCause string

const (
	replayNoCheckpoint replayCause = "no_checkpoint"
	replayEpoch        replayCause = "epoch" // the checkpoint is of another epoch
)

type metrics struct {
	partitions  prometheus.Gauge
	owned       *prometheus.GaugeVec
	bytes       *prometheus.GaugeVec
	limit       *prometheus.GaugeVec
	lag         *prometheus.GaugeVec
	lagging     *prometheus.GaugeVec
	refused     *prometheus.GaugeVec
	events      *prometheus.CounterVec
	forwarded   prometheus.Counter
	batches     *prometheus.CounterVec
	hints       prometheus.Counter
	resets      *prometheus.CounterVec
	replays     *prometheus.CounterVec
	epochs      prometheus.Counter
	checkpoints *prometheus.CounterVec
	routing     prometheus.Histogram
	receipts    prometheus.Histogram
}

// Values of the label type of ws_events_total that a router counts.
const (
	eventRouted       = "routed"
	eventQueued       = "queued"
	eventDeadLettered = "dead_lettered"
)

const (
	statusSuccess = "success"
	statusError   = "error"
)

var outcomeNames = map[lane.Outcome]string{
	lane.Received:     "received",
	lane.NoResponders: "no_responders",
	lane.TimedOut:     "timed_out",
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		partitions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_partitions", Help: "Partitions of the log (PARTITIONS).",
		}),
		owned: gaugeVec("gateway_partition_owned", "Whether this router serves the partition."),
		bytes: gaugeVec("gateway_partition_bytes", "Size of the partition in the log; of partitions that this router serves."),
		limit: gaugeVec("gateway_partition_limit_bytes", "Size at which the partition refuses events; of partitions that this router serves."),
		lag:   gaugeVec("gateway_partition_lag", "Messages in the partition that this router has not come to."),
		lagging: gaugeVec("gateway_router_lagging_edges",
			"Edges that did not answer last; nobody waits for them, and they get hints instead of events."),
		refused: gaugeVec("gateway_router_refused_waiting",
			fmt.Sprintf("Refused events that the dead letters have not taken yet; with %d the partition waits.", lane.MaxRefused)),
		events: counterVec("ws_events_total", "Events by what happened to them.", "type", "status"),
		forwarded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_events_forwarded_total", Help: "Events sent to edges, once for each edge; repeats not counted.",
		}),
		batches: counterVec("gateway_batches_total", "Batches sent to edges, by what became of them.", "outcome"),
		hints: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_hints_total", Help: "Hints sent to edges; repeats of a batch not counted.",
		}),
		resets:  counterVec("gateway_router_consumer_resets_total", "Consumers of partitions that were made anew.", "cause"),
		replays: counterVec("gateway_router_replays_total", "Starts of a partition from its oldest retained event.", "cause"),
		epochs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_epoch_raised_total", Help: "Epochs raised by this router because a partition was behind its position.",
		}),
		checkpoints: counterVec("gateway_router_checkpoints_total", "Checkpoints written.", "status"),
		routing: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gateway_router_latency_seconds",
			Help:    "Time from an event's being stored in the log to its being sent to an edge; the newest event of each batch.",
			Buckets: latencyBuckets(),
		}),
		receipts: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "gateway_router_receipt_seconds", Help: "Time from sending a batch to its receipt.",
			Buckets: latencyBuckets(),
		}),
	}
	m.initialize()
	reg.MustRegister(m.partitions, m.owned, m.bytes, m.limit, m.lag, m.lagging, m.refused, m.events, m.forwarded, m.batches, m.hints, m.resets,
		m.replays, m.epochs, m.checkpoints, m.routing, m.receipts)
	return m
}

// initialize creates the zero series of every closed set.
func (m *metrics) initialize() {
	for _, what := range []string{eventRouted, eventQueued, eventDeadLettered} {
		m.events.WithLabelValues(what, statusSuccess)
	}
	m.events.WithLabelValues(eventDeadLettered, statusError)
	for _, name := range outcomeNames {
		m.batches.WithLabelValues(name)
	}
	for _, cause := range []resetCause{resetFailed, resetStood} {
		m.resets.WithLabelValues(string(cause))
	}
	for _, cause := range []replayCause{replayNoCheckpoint, replayEpoch} {
		m.replays.WithLabelValues(string(cause))
	}
	for _, status := range []string{statusSuccess, statusError} {
		m.checkpoints.WithLabelValues(status)
	}
}

func latencyBuckets() []float64 { return prometheus.ExponentialBuckets(0.0005, 2, 15) }

func gaugeVec(name, help string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"partition"})
}

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// fill says how full the partition is.
func (m *metrics) fill(partition string, s eventlog.State) {
	m.bytes.WithLabelValues(partition).Set(float64(s.Bytes))
	m.limit.WithLabelValues(partition).Set(float64(s.Limit))
}

func label(p event.Partition) string { return strconv.Itoa(int(p)) }

// disposed counts what the lane did with an event.
func (m *metrics) disposed(d lane.Disposition) {
	switch d {
	case lane.Routed:
		m.events.WithLabelValues(eventRouted, statusSuccess).Inc()
	case lane.Queued:
		m.events.WithLabelValues(eventQueued, statusSuccess).Inc()
	case lane.Skipped, lane.Refused: // no event, or counted when it is stored
	}
}

func (m *metrics) deadLettered(err error) {
	m.events.WithLabelValues(eventDeadLettered, statusOf(err)).Inc()
}

func statusOf(err error) string {
	if err != nil {
		return statusError
	}
	return statusSuccess
}
