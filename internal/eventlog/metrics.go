package eventlog

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// operation is a kind of request to the log, as a metric label.
type operation string

const (
	opPublish    operation = "publish"
	opDeadLetter operation = "dead_letter"
	opLast       operation = "last"
	opRead       operation = "read"
	opInfo       operation = "info"
	opCheckpoint operation = "checkpoint"
	opUnresolved operation = "unresolved"
	opAudit      operation = "audit"
	opTrace      operation = "trace"
)

var operations = []operation{opPublish, opDeadLetter, opLast, opRead, opInfo, opCheckpoint, opUnresolved, opAudit, opTrace}

// status is the outcome of a request, as a metric label.
type status string

const (
	statusOK          status = "ok"
	statusFull        status = "full"
	statusUnavailable status = "unavailable"
	statusCancelled   status = "cancelled"
	statusError       status = "error"
)

var statuses = []status{statusOK, statusFull, statusUnavailable, statusCancelled, statusError}

func statusOf(err error) status {
	switch {
	case err == nil:
		return statusOK
	case errors.Is(err, ErrLogFull):
		return statusFull
	case errors.Is(err, ErrUnavailable):
		return statusUnavailable
	case errors.Is(err, context.Canceled):
		return statusCancelled
	}
	return statusError
}

type metrics struct {
	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	deadletters metric.Counters[event.Reason]
	epochs      prometheus.Counter
	sentinels   prometheus.Counter
	differences *prometheus.GaugeVec
	vanished    prometheus.Counter
	unreadable  prometheus.Counter
	following   prometheus.Gauge
	restarts    metric.Counters[jet.FollowCause]
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: metric.CounterVec(reg, "gateway_log_requests_total", "Requests to the event log.", "operation", "status"),
		duration: metric.HistogramVec(reg, "gateway_log_request_duration_seconds",
			"Time that requests to the event log took, waiting for a free place among them included.",
			prometheus.ExponentialBuckets(0.0005, 2, 15), "operation"),
		deadletters: metric.By(reg, "gateway_deadletters_total", "Dead letters stored by this node.", "reason", event.Reasons...),
		epochs: metric.Counter(reg, "gateway_log_epoch_changes_total",
			"Epochs of partitions that rose: a stream was created anew, restored or rolled back."),
		sentinels: metric.Counter(reg, "gateway_log_sentinels_total", "Sentinel messages published."),
		differences: metric.GaugeVec(reg, "gateway_log_replica_difference",
			"Events that only one of the two has: the leader of a partition, or the replica that answers this node.", "partition"),
		vanished: metric.Counter(reg, "gateway_log_vanished_events_total",
			"Events that went from the middle of a partition, and not because of its limits."),
		unreadable: metric.Counter(reg, "gateway_log_unreadable_reads_total",
			"Reads in which a NATS server passed over events that it has and cannot read."),
		following: metric.Gauge(reg, "gateway_log_followers", "Partitions that this node is following."),
		restarts: metric.By(reg, "gateway_log_follow_failures_total",
			"Consumers of a partition that ended and have to be started again.", "cause", jet.FollowCauses...),
	}
	for _, op := range operations {
		m.duration.WithLabelValues(string(op))
		for _, s := range statuses {
			m.requests.WithLabelValues(string(op), string(s))
		}
	}
	return m
}

// observe counts a request that began at start and ended with err.
func (m *metrics) observe(op operation, start time.Time, err error) {
	m.observeTraced(op, start, err, nil)
}

// observeTraced is observe for a request about an event that may have a trace.
func (m *metrics) observeTraced(op operation, start time.Time, err error, trace *tracing.Context) {
	m.requests.WithLabelValues(string(op), string(statusOf(err))).Inc()
	metric.Observe(m.duration.WithLabelValues(string(op)), time.Since(start).Seconds(), trace.ID())
}
