// Package eventlog is the log of events on NATS JetStream: the truth of which
// every other path of the gateway is a hint. It lays out the streams and
// buckets, publishes, follows a partition, and reads back, in bulk and by
// orchestrator.
//
// It knows where an event stands, not what it means: events are validated by
// package event, and package cursor keeps what has been delivered. Routers,
// edges and bridges use it; each has one Log for its connection.
//
// Where things are: what the log consists of in schema.go and size.go, set up by
// open.go and mended by state.go; the way in, on and back in publish.go,
// follow.go, last.go and read.go; what sequences mean in epoch.go, epochs.go,
// watch.go and rollback.go; whether the servers still have all in audit.go, and how
// much they have of whom in counts.go; what
// stands beside the log in deadletter.go, unresolved.go, trace.go and checkpoint.go.
// Package jet talks to NATS for all of them.
package eventlog

import (
	"context"
	"crypto/rand"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Log is the event log as one node sees it over its connection. All methods may
// be called at the same time, except that OnEpoch comes before Run.
type Log struct {
	// Set once.
	cfg         Config
	jet         *jet.Client
	logger      *slog.Logger
	metrics     *metrics
	cluster     jetstream.KeyValue
	checkpoints jetstream.KeyValue
	sizer       string // what tells this node from others that decide the size of the partitions

	traces *tracing.Sampler // nil: events have none

	epochs    *epochs
	differing differing
}

func newLog(js jetstream.JetStream, cfg Config, rights jet.Rights, logger *slog.Logger, reg prometheus.Registerer) *Log {
	logger = logger.With("component", "eventlog")
	l := &Log{cfg: cfg, jet: jet.New(js, rights, logger), logger: logger, metrics: newMetrics(reg), sizer: rand.Text()}
	l.epochs = newEpochs(l)
	return l
}

// Run keeps the epochs up to date and tells the functions registered with
// OnEpoch of changes, until ctx ends. It outlives outages of NATS.
func (l *Log) Run(ctx context.Context) error { return l.epochs.run(ctx) }

// Config returns what the log was opened with.
func (l *Log) Config() Config { return l.cfg }

// Partition returns where the events of an orchestrator stand.
func (l *Log) Partition(orchestrator event.Token) event.Partition {
	return event.PartitionOf(orchestrator, l.cfg.Partitions)
}
