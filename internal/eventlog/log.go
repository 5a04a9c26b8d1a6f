// Package eventlog is the log of events on NATS JetStream: the truth of which
// every other path of the gateway is a hint. It lays out the streams and
// buckets, publishes, follows a partition, and reads back, in bulk and by
// orchestrator.
//
// It knows where an event stands, not what it means: events are validated by
// package event, and what has been delivered is the business of package cursor.
// Routers, edges and bridges use it; each has one Log for its connection.
package eventlog

import (
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// Log is the event log as one node sees it over its connection. All methods may
// be called at the same time, except that OnEpoch comes before Run.
type Log struct {
	// Set once.
	cfg         Config
	nc          *nats.Conn
	js          jetstream.JetStream
	api         string // what the subjects of JetStream's API start with
	logger      *slog.Logger
	metrics     *metrics
	cluster     jetstream.KeyValue
	checkpoints jetstream.KeyValue

	// lasts and reads hold a token for each request under way on the connection.
	lasts chan struct{}
	reads chan struct{}

	epochs   *epochs
	outages  *outages
	absences *absences
}

func newLog(js jetstream.JetStream, cfg Config, logger *slog.Logger, reg prometheus.Registerer) *Log {
	return &Log{
		cfg:      cfg,
		nc:       js.Conn(),
		js:       js,
		api:      apiPrefix(js.Options()),
		logger:   logger.With("component", "eventlog"),
		metrics:  newMetrics(reg),
		lasts:    make(chan struct{}, concurrentLast),
		reads:    make(chan struct{}, concurrentReads),
		epochs:   newEpochs(cfg.Partitions),
		outages:  watchOutages(js.Conn()),
		absences: &absences{list: map[string]absence{}},
	}
}

// Config returns what the log was opened with.
func (l *Log) Config() Config { return l.cfg }

// Partition returns where the events of an orchestrator stand.
func (l *Log) Partition(orchestrator event.Token) event.Partition {
	return event.PartitionOf(orchestrator, l.cfg.Partitions)
}
