package router

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// resetCause is why a partition's consumer was replaced.
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
	away        *prometheus.GaugeVec // orchestrators
	awayEvents  *prometheus.GaugeVec
	awayFull    *prometheus.GaugeVec
	awayDeepest *prometheus.GaugeVec
	awayOldest  *prometheus.GaugeVec
	events      map[status]metric.Counters[string]
	forwarded   prometheus.Counter
	batches     metric.Counters[batchOutcome]
	hints       prometheus.Counter
	resets      metric.Counters[resetCause]
	replays     metric.Counters[replayCause]
	epochs      prometheus.Counter
	checkpoints metric.Counters[status]
	leftOut     metric.Counters[string]
	routing     prometheus.Histogram
	receipts    prometheus.Histogram
}

// Values of the label type of ws_events_total that a router counts.
const (
	eventRouted       = "routed"
	eventQueued       = "queued"
	eventDeadLettered = "dead_lettered"
	eventMoved        = "moved" // to the partition where it belongs
)

// status is how something ended.
type status string

const (
	statusSuccess status = "success"
	statusError   status = "error"
)

// batchOutcome is what became of a batch.
type batchOutcome string

var outcomeNames = map[lane.Outcome]batchOutcome{
	lane.Received:     "received",
	lane.NoResponders: "no_responders",
	lane.TimedOut:     "timed_out",
}

func newMetrics(reg prometheus.Registerer) *metrics {
	latency := prometheus.ExponentialBuckets(0.0005, 2, 15)
	ofPartition := func(name, help string) *prometheus.GaugeVec { return metric.GaugeVec(reg, name, help, "partition") }
	events := metric.CounterVec(reg, "ws_events_total", "Events by what happened to them.", "type", "status")
	m := &metrics{
		partitions: metric.Gauge(reg, "gateway_partitions", "Partitions of the log (PARTITIONS)."),
		owned:      ofPartition("gateway_partition_owned", "Whether this router serves the partition."),
		bytes:      ofPartition("gateway_partition_bytes", "Size of the partition in the log; of partitions that this router serves."),
		limit:      ofPartition("gateway_partition_limit_bytes", "Size at which the partition refuses events; of partitions that this router serves."),
		lag:        ofPartition("gateway_partition_lag", "Messages in the partition that this router has not come to."),
		lagging: ofPartition("gateway_router_lagging_edges",
			"Edges that did not answer last; nobody waits for them, and they get hints instead of events."),
		refused: ofPartition("gateway_router_refused_waiting",
			fmt.Sprintf("Refused events that the dead letters have not taken yet; with %d the partition waits.", lane.MaxRefused)),
		away: ofPartition("gateway_partition_away_orchestrators",
			"Orchestrators that no edge holds and for whom events wait in the log; of partitions that this router serves."),
		awayEvents: ofPartition("gateway_partition_away_events", "Events that wait for these orchestrators' daemons to come back."),
		awayFull: ofPartition("gateway_partition_away_full_orchestrators",
			"Those of them for whom as many events wait as are kept of one (EVENTS_PER_ORCHESTRATOR): with the next one the oldest is gone undelivered."),
		awayDeepest: ofPartition("gateway_partition_away_deepest_ratio",
			"Largest share of what is kept of one orchestrator (EVENTS_PER_ORCHESTRATOR) that waits for one of these, those left out for whom all of that waits already."),
		awayOldest: ofPartition("gateway_partition_away_oldest_ratio",
			"Age of the oldest of these events as a share of EVENT_RETENTION, with which it is gone undelivered."),
		events: map[status]metric.Counters[string]{
			statusSuccess: metric.CountersOf(events.MustCurryWith(prometheus.Labels{"status": string(statusSuccess)}),
				eventRouted, eventQueued, eventDeadLettered, eventMoved),
			statusError: metric.CountersOf(events.MustCurryWith(prometheus.Labels{"status": string(statusError)}), eventDeadLettered, eventMoved),
		},
		forwarded: metric.Counter(reg, "gateway_events_forwarded_total", "Events sent to edges, once for each edge; repeats not counted."),
		batches: metric.By(reg, "gateway_batches_total", "Batches sent to edges, by what became of them.",
			"outcome", slices.Collect(maps.Values(outcomeNames))...),
		hints:  metric.Counter(reg, "gateway_hints_total", "Hints sent to edges; repeats of a batch not counted."),
		resets: metric.By(reg, "gateway_router_consumer_resets_total", "Consumers of partitions that were replaced.", "cause", resetFailed, resetStood),
		replays: metric.By(reg, "gateway_router_replays_total", "Starts of a partition from its oldest retained event.",
			"cause", replayNoCheckpoint, replayEpoch),
		epochs: metric.Counter(reg, "gateway_epoch_raised_total",
			"Epochs raised by this router because a partition was behind its position."),
		leftOut: metric.By(reg, "gateway_router_event_fields_left_out_total",
			"Optional fields of events in the log that could not be used; the events were taken.", "field", event.Optional...),
		checkpoints: metric.By(reg, "gateway_router_checkpoints_total", "Checkpoints written.", "status", statusSuccess, statusError),
		routing: metric.Histogram(reg, "gateway_router_latency_seconds",
			"Time from an event's being stored in the log to its being sent to an edge; the newest event of each batch.", latency),
		receipts: metric.Histogram(reg, "gateway_router_receipt_seconds", "Time from sending a batch to its receipt.", latency),
	}
	return m
}

// count adds to the events to which something happened.
func (m *metrics) count(what string, s status, n int) {
	m.events[s].Of(what).Add(float64(n))
}

// takenWithout counts the fields that an event is taken without.
func (m *metrics) takenWithout(fields []string) {
	for _, field := range fields {
		m.leftOut.Of(field).Inc()
	}
}

// fill says how full the partition is.
func (m *metrics) fill(partition string, s eventlog.State) {
	m.bytes.WithLabelValues(partition).Set(float64(s.Bytes))
	m.limit.WithLabelValues(partition).Set(float64(s.Limit))
}

// waitsAway says what waits in a partition for those who are away.
func (m *metrics) waitsAway(partition string, w waiting) {
	m.away.WithLabelValues(partition).Set(float64(w.orchestrators))
	m.awayEvents.WithLabelValues(partition).Set(float64(w.events))
	m.awayFull.WithLabelValues(partition).Set(float64(w.full))
	m.awayDeepest.WithLabelValues(partition).Set(w.deepest)
	m.awayOldest.WithLabelValues(partition).Set(w.oldest)
}

// forgetAway is for a partition that another router counts now.
func (m *metrics) forgetAway(partition string) {
	for _, v := range []*prometheus.GaugeVec{m.away, m.awayEvents, m.awayFull, m.awayDeepest, m.awayOldest} {
		v.DeleteLabelValues(partition)
	}
}

func label(p event.Partition) string { return strconv.Itoa(int(p)) }

// disposed counts what the lane did with an event.
func (m *metrics) disposed(d lane.Disposition) {
	switch d {
	case lane.Routed:
		m.count(eventRouted, statusSuccess, 1)
	case lane.Queued:
		m.count(eventQueued, statusSuccess, 1)
	case lane.Skipped, lane.Refused: // no event, or counted when it is stored
	}
}

func (m *metrics) deadLettered(err error) {
	m.count(eventDeadLettered, statusOf(err), 1)
}

func statusOf(err error) status {
	if err != nil {
		return statusError
	}
	return statusSuccess
}
