package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// NATS reserves a stream's MaxBytes when it is created and refuses one that
// does not fit, so a server with less disk than PARTITIONS times LOG_MAX_BYTES
// would hold some partitions and not others. Therefore the size of all
// partitions is decided once, for the whole cluster: LOG_MAX_BYTES, halved until
// it fits. It is kept in the cluster's bucket, and only those who manage change
// it when the setting or the room changes.

const (
	partitionBytesKey = "partition_bytes"
	// minPartitionBytes is less than which a partition is of no use.
	minPartitionBytes = 32 << 20
)

// partitionBytes returns how large each partition may get.
func (l *Log) partitionBytes(ctx context.Context, wanted int64, manage bool) (int64, error) {
	entry, err := jet.Entry(ctx, l.cluster, partitionBytesKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return l.firstPartitionBytes(ctx, wanted)
	}
	if err != nil {
		return 0, wrap("read the size of the partitions", err)
	}
	have, err := strconv.ParseInt(string(entry.Value()), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: the size of the partitions is recorded as %q", ErrConfig, entry.Value())
	}
	if have == wanted || !manage {
		return have, nil
	}
	if have < wanted {
		fits, err := l.jet.CanReserve(ctx, (wanted-have)*l.reservations(), l.cfg.StreamReplicas)
		if err != nil {
			return 0, err
		}
		if !fits {
			l.warnReduced(have, wanted)
			return have, nil
		}
	}
	_, err = jet.Ask(ctx, func(ctx context.Context) (uint64, error) {
		return l.cluster.Update(ctx, partitionBytesKey, []byte(strconv.FormatInt(wanted, 10)), entry.Revision())
	})
	return wanted, wrap("record the size of the partitions", err)
}

func (l *Log) firstPartitionBytes(ctx context.Context, wanted int64) (int64, error) {
	bytes := wanted
	for {
		fits, err := l.jet.CanReserve(ctx, bytes*l.reservations(), l.cfg.StreamReplicas)
		if err != nil {
			return 0, err
		}
		if fits {
			break
		}
		if bytes /= 2; bytes < minPartitionBytes {
			return 0, fmt.Errorf("%w: NATS cannot reserve even %s for each of %d partitions", ErrUnavailable, settings.ByteSize(minPartitionBytes), l.cfg.Partitions)
		}
	}
	_, err := jet.Ask(ctx, func(ctx context.Context) (uint64, error) {
		return l.cluster.Create(ctx, partitionBytesKey, []byte(strconv.FormatInt(bytes, 10)))
	})
	if errors.Is(err, jetstream.ErrKeyExists) {
		// Also one whose partitions took the room that this one did not find.
		return 0, fmt.Errorf("%w: another node has just decided the size of the partitions", ErrUnavailable)
	}
	if err == nil && bytes < wanted {
		l.warnReduced(bytes, wanted)
	}
	return bytes, wrap("record the size of the partitions", err)
}

// reservations is how many streams of a partition's size there are: the
// partitions and the dead letters.
func (l *Log) reservations() int64 { return int64(l.cfg.Partitions) + 1 }

func (l *Log) warnReduced(have, wanted int64) {
	l.logger.Warn("NATS cannot reserve LOG_MAX_BYTES for each partition: they are smaller",
		"bytes", have, "wanted", wanted, "partitions", l.cfg.Partitions)
}
