package eventlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/outage"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// openTimeout bounds one try at opening. Creating the streams of 64
	// partitions with three replicas takes some seconds.
	openTimeout = time.Minute
	// setupTimeout bounds the work on one stream or bucket.
	setupTimeout    = 15 * time.Second
	firstOpenDelay  = 100 * time.Millisecond
	longestDelay    = 3 * time.Second
	concurrentSetup = 8
	// headerRoom is what a message may need beside an event's body.
	headerRoom = 4 << 10
)

// Option changes what Open does.
type Option func(*openOptions)

type openOptions struct {
	wanted   Config // as configured; the log's own may have smaller partitions
	rights   jet.Rights
	progress func(detail string)
	remark   func(detail string)
	traces   *tracing.Sampler
}

// Manage makes Open change streams and buckets that exist with other settings
// than the configured ones. One tier does that (routers), so that nodes that
// disagree for the time of a rollout do not undo each other's changes.
func Manage() Option { return func(o *openOptions) { o.rights = jet.Change } }

// Unmanaged makes Open, and the log for as long as it lives, leave streams and
// buckets alone: gateway-admin makes and changes them, with a NATS user of its own.
// What is missing is waited for. What has other settings is used as it is, because
// limits that differ for a while, as in every rollout of a change, keep no event
// from being delivered.
func Unmanaged() Option { return func(o *openOptions) { o.rights = jet.Use } }

// Progress is told what Open is waiting for, for /readyz; "" when it is done.
// It is called from Open's goroutine.
func Progress(f func(detail string)) Option { return func(o *openOptions) { o.progress = f } }

// ReadTraces has events come with the place in their trace, and be published with it
// (tracing.With). A nil sampler changes nothing.
func ReadTraces(s *tracing.Sampler) Option { return func(o *openOptions) { o.traces = s } }

// Open makes sure that everything the log consists of exists, creating what is
// missing, unless it is Unmanaged; any number of nodes may do so at the same time.
// While NATS cannot be reached or is not ready it waits, until ctx ends.
// ErrPartitions and ErrConfig are returned at once.
func Open(ctx context.Context, js jetstream.JetStream, cfg Config, logger *slog.Logger, reg prometheus.Registerer, options ...Option) (*Log, error) {
	opts := openOptions{wanted: cfg, rights: jet.Create, progress: func(string) {}, remark: func(string) {}}
	for _, o := range options {
		o(&opts)
	}
	l := newLog(js, cfg, opts.rights, logger, reg)
	l.traces = opts.traces
	opts.progress("connecting to NATS")
	var err error
	waiting := outage.New("event log not ready, trying again", l.logger)
	for delay := firstOpenDelay; ctx.Err() == nil; delay = min(2*delay, longestDelay) {
		err = l.jet.Bounded(ctx, openTimeout, func(ctx context.Context) error { return l.setUp(ctx, opts) })
		if err == nil {
			if names := l.differing.names(); len(names) > 0 {
				opts.remark("other settings than this node's have: " + strings.Join(names, ", ") + "; " + l.jet.Changer())
			}
			opts.progress("")
			return l, nil
		}
		if errors.Is(err, ErrPartitions) || errors.Is(err, ErrConfig) {
			return nil, err
		}
		err = explain(err, l.jet.JS)
		opts.progress(err.Error())
		switch {
		case ctx.Err() != nil: // that is why
		case errors.Is(err, errBeingSized):
			l.logger.Info("another node decides how large the partitions are", "retry_in", delay, "error", err)
		default:
			waiting.Failed(cmp.Or(l.jet.NC.ConnectedUrlRedacted(), "NATS"), err.Error(), delay)
		}
		lifecycle.Sleep(ctx, delay)
	}
	return nil, errors.Join(fmt.Errorf("open the event log: %w", ctx.Err()), err)
}

// setUp is one try at everything. It starts with the number of partitions,
// which tells whether this is our log at all.
func (l *Log) setUp(ctx context.Context, opts openOptions) error {
	if !l.jet.NC.IsConnected() {
		return fmt.Errorf("%w: not connected to NATS", ErrUnavailable)
	}
	if room := l.jet.NC.MaxPayload() - headerRoom; int64(l.cfg.MaxEventBytes) > room {
		return fmt.Errorf("%w: MAX_EVENT_BYTES is %d, expected at most %d with the max_payload of the NATS server",
			ErrConfig, l.cfg.MaxEventBytes, room)
	}
	wanted := int64(opts.wanted.LogMaxBytes)
	for _, b := range l.cfg.buckets() {
		if b.Name == BucketStream(ClusterBucket) {
			if err := l.setUpCluster(ctx, b); err != nil {
				return err
			}
		}
	}
	bytes, err := l.partitionBytes(ctx, wanted)
	if err != nil {
		return err
	}
	l.cfg.LogMaxBytes = settings.ByteSize(bytes)
	if err := l.setUpParts(ctx, l.cfg.buckets()); err != nil {
		return err
	}
	if l.checkpoints, err = l.jet.Bucket(ctx, CheckpointBucket); err != nil {
		return fmt.Errorf("open bucket %s: %w", CheckpointBucket, err)
	}
	return nil
}

// setUpParts makes sure of everything side by side.
func (l *Log) setUpParts(ctx context.Context, buckets []jetstream.StreamConfig) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentSetup)
	start := func(f func(context.Context) error) {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, setupTimeout)
			defer cancel()
			return f(ctx)
		})
	}
	for _, b := range buckets {
		start(func(ctx context.Context) error { return l.ensureBucket(ctx, b) })
	}
	start(func(ctx context.Context) error {
		want := l.cfg.deadletters()
		info, err := l.jet.EnsureStream(ctx, want, l.jet.Stream)
		if err != nil {
			return err
		}
		return l.adjust(ctx, info.Config, want)
	})
	for p := range event.Partition(l.cfg.Partitions) {
		start(func(ctx context.Context) error { return l.setUpPartition(ctx, p) })
	}
	start(func(ctx context.Context) error {
		l.setUpTraces(ctx)
		return nil
	})
	return group.Wait()
}

func (l *Log) setUpCluster(ctx context.Context, cfg jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	if err := l.ensureBucket(ctx, cfg); err != nil {
		return err
	}
	kv, err := l.jet.Bucket(ctx, ClusterBucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", ClusterBucket, err)
	}
	l.cluster, l.epochs.bucket = kv, kv
	return l.recordPartitions(ctx)
}

// recordPartitions writes down the number of partitions where nobody has done
// so, and returns ErrPartitions where it is another.
func (l *Log) recordPartitions(ctx context.Context) error {
	want := strconv.Itoa(l.cfg.Partitions)
	if l.jet.Rights() >= jet.Create {
		// Create, not Get: only the leader knows that the key is absent.
		_, err := jet.Ask(ctx, func(ctx context.Context) (uint64, error) {
			return l.cluster.Create(ctx, event.PartitionsKey, []byte(want))
		})
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return wrap("record the number of partitions", err)
		}
	}
	entry, err := jet.Entry(ctx, l.cluster, event.PartitionsKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("number of partitions: %w", jet.ErrMissing)
	}
	if err != nil {
		return wrap("read the number of partitions", err)
	}
	if got := string(entry.Value()); got != want {
		return fmt.Errorf("%w: PARTITIONS is %s, expected %s, with which it was created", ErrPartitions, want, got)
	}
	return nil
}

func (l *Log) setUpPartition(ctx context.Context, p event.Partition) error {
	info, err := l.jet.EnsureStream(ctx, l.cfg.partitionStream(p), l.jet.Stream)
	if err != nil {
		return err
	}
	if _, err := l.epochs.reconcile(ctx, p, info.Created); err != nil {
		return err
	}
	if err := l.adjust(ctx, info.Config, l.cfg.partitionStream(p)); err != nil {
		return err
	}
	return l.ensureSentinel(ctx, p)
}

// ensureSentinel publishes the sentinel where it is missing. A full partition
// is no reason not to start: where any event matches, none is needed.
func (l *Log) ensureSentinel(ctx context.Context, p event.Partition) error {
	subject := event.Subject(p, event.SentinelToken)
	found, err := l.LastMessages(ctx, event.StreamName(p), []string{subject})
	if err != nil {
		return err
	}
	if _, ok := found[subject]; ok {
		return nil
	}
	err = l.RenewSentinel(ctx, p)
	if errors.Is(err, ErrLogFull) {
		l.logger.Error("partition is full, and refuses events", "partition", p, "error", err)
		return nil
	}
	return err
}

// differing are the streams and buckets that have other settings than this node.
type differing struct {
	mu   sync.Mutex
	list map[string]bool
}

func (d *differing) note(name string, differs bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.list == nil {
		d.list = map[string]bool{}
	}
	d.list[name] = differs
}

func (d *differing) names() (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, differs := range d.list {
		if differs {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (l *Log) ensureBucket(ctx context.Context, want jetstream.StreamConfig) error {
	differs, err := l.jet.EnsureBucket(ctx, want)
	l.differing.note(want.Name, differs)
	return err
}

func (l *Log) adjust(ctx context.Context, have, want jetstream.StreamConfig) error {
	differs, err := l.jet.AdjustStream(ctx, have, want)
	l.differing.note(want.Name, differs)
	return err
}

func wrap(act string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", act, err)
}
