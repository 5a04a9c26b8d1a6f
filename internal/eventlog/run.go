package eventlog

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// epochInterval is how often the epochs are read again in full: the net
	// under the watch, which is only told of changes.
	epochInterval = 30 * time.Second
	watchRetry    = time.Second
)

// Run keeps the epochs up to date and tells the functions registered with
// OnEpoch of changes, until ctx ends. It outlives outages of NATS.
func (l *Log) Run(ctx context.Context) error {
	updates := make(chan struct{})
	go func() {
		defer close(updates)
		l.watchEpochs(ctx)
	}()
	defer func() { <-updates }()
	net := time.NewTicker(epochInterval)
	defer net.Stop()
	for {
		l.epochs.tell()
		select {
		case <-ctx.Done():
			return nil
		case <-l.epochs.changed:
		case <-net.C:
			l.readEpochs(ctx)
		}
	}
}

// watchEpochs follows the cluster bucket until ctx ends.
func (l *Log) watchEpochs(ctx context.Context) {
	for ctx.Err() == nil {
		watcher, err := l.cluster.Watch(ctx, epochKeyPrefix+"*")
		if err == nil {
			l.readWatcher(ctx, watcher)
		} else if ctx.Err() == nil {
			l.logger.Warn("epochs cannot be watched, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchRetry):
		}
	}
}

func (l *Log) readWatcher(ctx context.Context, watcher jetstream.KeyWatcher) {
	defer func() { _ = watcher.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return
		case entry, ok := <-watcher.Updates():
			if !ok {
				return
			}
			if entry != nil && entry.Operation() == jetstream.KeyValuePut {
				l.learnEntry(entry.Key(), entry.Value())
			}
		}
	}
}

func (l *Log) learnEntry(key string, value []byte) {
	p, err := strconv.Atoi(strings.TrimPrefix(key, epochKeyPrefix))
	if err == nil && p >= 0 && p < l.cfg.Partitions {
		l.learnEpoch(event.Partition(p), Epoch(value))
	}
}

func (l *Log) readEpochs(ctx context.Context) {
	subjects := make([]string, l.cfg.Partitions)
	for p := range subjects {
		subjects[p] = BucketSubject(ClusterBucket, epochKey(event.Partition(p)))
	}
	found, err := l.LastMessages(ctx, BucketStream(ClusterBucket), subjects)
	if err != nil {
		return // counted there; asked again at the next tick
	}
	for p, subject := range subjects {
		l.learnEntry(epochKey(event.Partition(p)), found[subject].Data)
		if l.Epoch(event.Partition(p)).Newer(Epoch(found[subject].Data)) {
			l.restoreEpoch(ctx, event.Partition(p))
		}
	}
}

// restoreEpoch writes what is known here into a bucket that has an older epoch,
// because it was rolled back. One that was read from a replica that lags has it
// already.
func (l *Log) restoreEpoch(ctx context.Context, p event.Partition) {
	err := l.request(ctx, func(ctx context.Context) error {
		_, err := l.advance(ctx, p, func(current Epoch) (Epoch, bool) { return current, false })
		return err
	})
	if err != nil {
		l.logger.Warn("the bucket has an older epoch than this node and cannot be mended yet", "partition", p, "error", err)
	}
}
