package eventlog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// State is what the leader of a partition's stream says of it.
type State struct {
	Epoch Epoch
	// First and Last are the oldest and the newest sequence. First is Last+1 in
	// an empty stream.
	First, Last uint64
	// Bytes is what the stream holds, Limit what it may hold before it refuses
	// publishes.
	Bytes, Limit uint64
}

// Refresh asks the leader for the state of a partition's stream. It notices a
// stream that was created again, and creates one that has been missing for some
// seconds, unless the log is Unmanaged; until then it returns ErrUnavailable. Compare finds a stream that
// was rolled back, and the caller says so with RaiseEpoch.
func (l *Log) Refresh(ctx context.Context, p event.Partition) (State, error) {
	start := time.Now()
	var (
		info  *jetstream.StreamInfo
		epoch Epoch
	)
	err := l.jet.Request(ctx, func(ctx context.Context) (err error) {
		info, err = l.jet.EnsureStream(ctx, l.cfg.partitionStream(p), l.jet.Find)
		if err == nil && !l.Epoch(p).belongsTo(info.Created) {
			err = l.ensureRest(ctx, p)
		}
		if err != nil {
			return err
		}
		epoch, err = l.epochs.reconcile(ctx, p, info.Created)
		return err
	})
	l.metrics.observe(opInfo, start, err)
	if err != nil {
		return State{}, fmt.Errorf("state of partition %d: %w", p, err)
	}
	return State{
		Epoch: epoch, First: info.State.FirstSeq, Last: info.State.LastSeq,
		Bytes: info.State.Bytes, Limit: uint64(max(0, info.Config.MaxBytes)),
	}, nil
}

// ensureRest makes sure of the dead letters and traces, and of the buckets that a
// partition needs: when its stream was created again, all of JetStream
// may have been lost. It does so at once, since the stream has been missing for
// some seconds, and until the new epoch is written, what is sent is sent under
// the old one, and again.
func (l *Log) ensureRest(ctx context.Context, p event.Partition) error {
	needed := []string{BucketStream(ClusterBucket), BucketStream(CheckpointBucket), BucketStream(revocation.Bucket), BucketStream(CursorBucket(p))}
	for _, want := range l.cfg.buckets() {
		if !slices.Contains(needed, want.Name) {
			continue
		}
		if _, err := l.jet.EnsureBucket(ctx, want); err != nil {
			return err
		}
	}
	if _, err := l.jet.EnsureStream(ctx, l.cfg.deadletters(), l.jet.Stream); err != nil {
		return err
	}
	l.setUpTraces(ctx)
	return l.recordPartitions(ctx)
}
