package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// finder returns a stream as its leader describes it: Log.stream, or Log.find
// where the stream has been there before.
type finder func(ctx context.Context, name string) (jetstream.Stream, error)

// ensureStream returns the stream that find finds, and creates it if there is
// none. Many nodes may do that at once: the same settings twice are no
// mistake to the server, and others than ours mean that it is there.
func (l *Log) ensureStream(ctx context.Context, want jetstream.StreamConfig, find finder) (*jetstream.StreamInfo, error) {
	stream, err := find(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = l.createStream(ctx, want)
		if err == nil {
			l.logger.Info("stream created", "stream", want.Name)
		}
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			stream, err = l.stream(ctx, want.Name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, setupError(err))
	}
	info := stream.CachedInfo()
	if !slices.Equal(info.Config.Subjects, want.Subjects) {
		return nil, fmt.Errorf("%w: stream %s holds the subjects %v, expected %v", ErrConfig, want.Name, info.Config.Subjects, want.Subjects)
	}
	return info, nil
}

// adjustStream changes a stream's settings to the wanted ones, or complains.
func (l *Log) adjustStream(ctx context.Context, have, want jetstream.StreamConfig, manage bool) error {
	merged, differs := merge(have, want)
	if !differs {
		return nil
	}
	if !manage {
		l.logger.Warn("stream has other settings than this node; a router changes them", "stream", want.Name)
		return nil
	}
	if _, err := l.js.UpdateStream(ctx, merged); err != nil {
		return fmt.Errorf("update stream %s: %w", want.Name, setupError(err))
	}
	l.logger.Info("stream updated", "stream", want.Name)
	return nil
}

// merge returns have with the settings that can be changed taken from want, and
// whether that changes anything. The rest stays as the operator made it.
func merge(have, want jetstream.StreamConfig) (jetstream.StreamConfig, bool) {
	merged := have
	merged.MaxMsgsPerSubject = unlimited(want.MaxMsgsPerSubject)
	merged.MaxBytes = unlimited(want.MaxBytes)
	merged.MaxAge = want.MaxAge
	merged.Duplicates = want.Duplicates
	merged.Replicas = want.Replicas
	merged.Discard = want.Discard
	merged.DiscardNewPerSubject = want.DiscardNewPerSubject
	merged.AllowDirect = want.AllowDirect
	return merged, merged.MaxMsgsPerSubject != have.MaxMsgsPerSubject || merged.MaxBytes != have.MaxBytes ||
		merged.MaxAge != have.MaxAge || merged.Duplicates != have.Duplicates || merged.Replicas != have.Replicas ||
		merged.Discard != have.Discard || merged.DiscardNewPerSubject != have.DiscardNewPerSubject ||
		merged.AllowDirect != have.AllowDirect
}

// unlimited is how the server writes the absence of a limit.
func unlimited(limit int64) int64 {
	if limit == 0 {
		return -1
	}
	return limit
}

func (l *Log) ensureBucket(ctx context.Context, want jetstream.KeyValueConfig, manage bool) error {
	stream, err := l.stream(ctx, BucketStream(want.Bucket))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = ask(ctx, func(ctx context.Context) (jetstream.KeyValue, error) { return l.js.CreateKeyValue(ctx, want) })
		if err == nil || errors.Is(err, jetstream.ErrBucketExists) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", want.Bucket, setupError(err))
	}
	have := stream.CachedInfo().Config
	if have.Replicas == want.Replicas && have.MaxAge == want.TTL {
		return nil
	}
	if !manage {
		l.logger.Warn("bucket has other settings than this node; a router changes them", "bucket", want.Bucket)
		return nil
	}
	if _, err := l.js.UpdateKeyValue(ctx, want); err != nil {
		return fmt.Errorf("update bucket %s: %w", want.Bucket, setupError(err))
	}
	l.logger.Info("bucket updated", "bucket", want.Bucket)
	return nil
}

// ensureRest creates what is missing of the dead letters and of the buckets that a
// partition needs: when its stream was created anew, all of JetStream may have
// been lost. It does so at once, since the stream has been missing for some
// seconds, and until the new epoch is written, what is sent is sent under the old
// one, and again.
func (l *Log) ensureRest(ctx context.Context, p event.Partition) error {
	for _, want := range l.cfg.buckets() {
		if !slices.Contains([]string{ClusterBucket, CheckpointBucket, CursorBucket(p)}, want.Bucket) {
			continue
		}
		if err := l.ensureBucket(ctx, want, false); err != nil {
			return err
		}
	}
	if _, err := l.ensureStream(ctx, l.cfg.deadletters(), l.stream); err != nil {
		return err
	}
	return l.recordPartitions(ctx)
}

// setupError tells what no waiting mends, and explains what NATS says in words
// that do not help.
func setupError(err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch api.ErrorCode {
	case codeReplicasUnsupported:
		return fmt.Errorf("%w: STREAM_REPLICAS over 1 needs a NATS cluster: %w", ErrConfig, err)
	case codeStreamInvalidConfig:
		return fmt.Errorf("%w: %w", ErrConfig, err)
	case codeStorageExceeded, codeInsufficientResources, codeAccountResources, codeNoPeers:
		return fmt.Errorf("NATS has no room for it; it reserves PARTITIONS x LOG_MAX_BYTES on each server that holds a copy: %w", err)
	}
	return err
}
