package eventlog

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// epochInterval is how often the epochs are read again in full: the net
	// under the watch, which is only told of changes.
	epochInterval = 30 * time.Second
	watchRetry    = time.Second
)

// run keeps the epochs up to date and tells the listeners of changes, until ctx
// ends.
func (e *epochs) run(ctx context.Context) error {
	updates := make(chan struct{})
	go func() {
		defer close(updates)
		e.watch(ctx)
	}()
	defer func() { <-updates }()
	net := time.NewTicker(epochInterval)
	defer net.Stop()
	for {
		e.tell()
		select {
		case <-ctx.Done():
			return nil
		case <-e.changed:
		case <-net.C:
			e.readAll(ctx)
		}
	}
}

// watch follows the cluster bucket until ctx ends.
func (e *epochs) watch(ctx context.Context) {
	for ctx.Err() == nil {
		watcher, err := e.bucket.Watch(ctx, epochKeyPrefix+"*")
		if err == nil {
			e.readWatcher(ctx, watcher)
		} else if ctx.Err() == nil {
			e.logger.Warn("epochs cannot be watched, trying again", "error", err)
		}
		lifecycle.Sleep(ctx, watchRetry)
	}
}

func (e *epochs) readWatcher(ctx context.Context, watcher jetstream.KeyWatcher) {
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
				e.learnEntry(entry.Key(), entry.Value())
			}
		}
	}
}

func (e *epochs) learnEntry(key string, value []byte) {
	p, err := strconv.Atoi(strings.TrimPrefix(key, epochKeyPrefix))
	if err == nil && p >= 0 && p < len(e.known) {
		e.learn(event.Partition(p), Epoch(value))
	}
}

func (e *epochs) readAll(ctx context.Context) {
	subjects := make([]string, len(e.known))
	for p := range subjects {
		subjects[p] = BucketSubject(ClusterBucket, epochKey(event.Partition(p)))
	}
	found, err := e.stored(ctx, BucketStream(ClusterBucket), subjects)
	if err != nil {
		return // counted there; asked again at the next tick
	}
	for p, subject := range subjects {
		e.learnEntry(epochKey(event.Partition(p)), found[subject].Data)
		if e.get(event.Partition(p)).Newer(Epoch(found[subject].Data)) {
			e.restore(ctx, event.Partition(p))
		}
	}
}

// restore writes what is known here into a bucket that has an older epoch,
// because it was rolled back. One that was read from a replica that lags has it
// already.
func (e *epochs) restore(ctx context.Context, p event.Partition) {
	err := e.jet.Request(ctx, func(ctx context.Context) error {
		_, err := e.advance(ctx, p, func(current Epoch) (Epoch, bool) { return current, false })
		return err
	})
	if err != nil {
		e.logger.Warn("the bucket has an older epoch than this node and cannot be mended yet", "partition", p, "error", err)
	}
}
