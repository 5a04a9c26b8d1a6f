package ring

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/metric"
)

// dropReason says why a message, or a part of one, was thrown away. The next
// exchange of digests finds whatever is missing then.
type dropReason string

const (
	dropInboxFull   dropReason = "inbox_full"   // more arrives than is taken in
	dropQueueFull   dropReason = "queue_full"   // a member takes too little from us
	dropSendFailed  dropReason = "send_failed"  // a member could not be reached
	dropMalformed   dropReason = "malformed"    // not a message of ours
	dropUnknownKind dropReason = "unknown_kind" // of a version that says more
	dropUnknownEdge dropReason = "unknown_edge" // not, not yet or no longer a member
	dropEarly       dropReason = "early"        // too many came before their turn
	dropStreams     dropReason = "streams"      // an address has opened too many at a time
	dropStreamBytes dropReason = "stream_bytes" // more than a member sends
	dropMembers     dropReason = "members"      // there are too many
	dropClaims      dropReason = "claims"       // what an edge claims finds no room
)

// snapshotEvent is a step in the life of a snapshot.
type snapshotEvent string

const (
	snapshotRequested snapshotEvent = "requested"
	snapshotReceived  snapshotEvent = "received"
	snapshotAbandoned snapshotEvent = "abandoned" // asked for, and no answer
	snapshotDiffers   snapshotEvent = "differs"   // same version, other claims: a defect
	snapshotSent      snapshotEvent = "sent"
	snapshotFailed    snapshotEvent = "failed" // could not be sent
)

type metrics struct {
	snapshots  metric.Counters[snapshotEvent]
	drops      metric.Counters[dropReason]
	sentBytes  prometheus.Counter
	stateBytes prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		snapshots: metric.By(reg, "gateway_directory_snapshots_total", "Snapshots of an edge's claims, by what happened.", "event",
			snapshotRequested, snapshotReceived, snapshotAbandoned, snapshotDiffers, snapshotSent, snapshotFailed),
		drops: metric.By(reg, "gateway_directory_dropped_messages_total", "Directory messages thrown away, by reason.", "reason",
			dropInboxFull, dropQueueFull, dropSendFailed, dropMalformed, dropUnknownKind, dropUnknownEdge, dropEarly,
			dropStreams, dropStreamBytes, dropMembers, dropClaims),
		sentBytes: metric.Counter(reg, "gateway_directory_sent_bytes_total",
			"Bytes of changes and snapshots sent to members, before encryption."),
		stateBytes: metric.Gauge(reg, "gateway_directory_state_bytes", "Size of the digests last exchanged in a push/pull."),
	}
}

func (m *metrics) dropped(reason dropReason) { m.drops.Of(reason).Inc() }

func (m *metrics) snapshot(event snapshotEvent) { m.snapshots.Of(event).Inc() }

// observe registers what is read from the directory at scrape time.
func observe(d *Directory, reg prometheus.Registerer) {
	gauge := func(name, help string, labels prometheus.Labels, read func() float64) {
		metric.GaugeFunc(reg, name, help, labels, read)
	}
	for _, tier := range []Tier{TierEdge, TierRouter} {
		gauge("gateway_directory_members", "Live members known, this node included.", prometheus.Labels{"tier": string(tier)},
			func() float64 { return float64(len(d.Members(tier))) })
	}
	gauge("gateway_directory_claims", "Claims known, of all edges; their canaries are not counted.", nil,
		func() float64 { return float64(d.table.total.Load()) })
	gauge("gateway_directory_queue_length", "Directory messages waiting.", prometheus.Labels{"queue": "inbox"},
		func() float64 { return float64(d.inbox.length()) })
	gauge("gateway_directory_queue_length", "Directory messages waiting.", prometheus.Labels{"queue": "senders"},
		func() float64 { return float64(d.senders.length()) })
	gauge("gateway_directory_convergence_lag_seconds", "Age of the oldest disagreement with another edge that is known here.", nil,
		func() float64 {
			if since := d.lagSince.Load(); since != nil {
				return time.Since(*since).Seconds()
			}
			return 0
		})
	gauge("gateway_directory_health_score", "How far this node itself fails to keep the gossip's pace; 0 is healthy.", nil,
		func() float64 { return float64(d.list.GetHealthScore()) })
}
