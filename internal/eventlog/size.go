package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

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
	// sizingKey is there while a node decides.
	sizingKey = "sizing"
	// sizingAge is how old a mark must be before it counts as left by a node that
	// died, and is removed. Were it removed too early, because clocks differ, two
	// nodes would reserve at once, which is mostly harmless.
	sizingAge = 10 * time.Second
	// minPartitionBytes: a smaller partition would be of no use.
	minPartitionBytes = 32 << 20
)

// errBeingSized is no failure: the next try finds the decision.
var errBeingSized = fmt.Errorf("%w: another node does so", ErrUnavailable)

// partitionBytes returns how large each partition may get.
func (l *Log) partitionBytes(ctx context.Context, wanted int64) (int64, error) {
	manage := l.jet.Rights() == jet.Change
	have, _, err := l.recordedBytes(ctx)
	if err != nil || have == wanted || have != 0 && !manage {
		return have, err
	}
	if l.jet.Rights() == jet.Use {
		return 0, fmt.Errorf("size of the partitions: %w", jet.ErrMissing)
	}
	done, err := l.sizeAlone(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	have, revision, err := l.recordedBytes(ctx) // another node may have decided
	if err != nil || have == wanted || have != 0 && !manage {
		return have, err
	}
	bytes, err := l.bytesThatFit(ctx, have, wanted)
	if err != nil {
		return 0, err
	}
	if bytes < wanted {
		l.logger.Warn("NATS cannot reserve LOG_MAX_BYTES for each partition: they are smaller",
			"bytes", bytes, "wanted", wanted, "partitions", l.cfg.Partitions)
	}
	if bytes != have {
		_, err = jet.Ask(ctx, func(ctx context.Context) (uint64, error) {
			return l.cluster.Update(ctx, partitionBytesKey, []byte(strconv.FormatInt(bytes, 10)), revision)
		})
	}
	return bytes, wrap("record the size of the partitions", err)
}

// recordedBytes returns what was decided, 0 if nothing was.
func (l *Log) recordedBytes(ctx context.Context) (bytes int64, revision uint64, err error) {
	entry, err := jet.Entry(ctx, l.cluster, partitionBytesKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, wrap("read the size of the partitions", err)
	}
	bytes, err = strconv.ParseInt(string(entry.Value()), 10, 64)
	if err != nil || bytes <= 0 {
		return 0, 0, fmt.Errorf("%w: the size of the partitions is recorded as %q", ErrConfig, entry.Value())
	}
	return bytes, entry.Revision(), nil
}

// sizeAlone keeps all other nodes from deciding until done is called, or returns
// ErrUnavailable because one of them does.
func (l *Log) sizeAlone(ctx context.Context) (done func(), err error) {
	mark, err := jet.Ask(ctx, func(ctx context.Context) (uint64, error) {
		return l.cluster.Create(ctx, sizingKey, []byte(l.sizer))
	})
	if errors.Is(err, jetstream.ErrKeyExists) {
		var entry jetstream.KeyValueEntry
		switch entry, err = jet.Entry(ctx, l.cluster, sizingKey); {
		case err == nil:
			mark, err = l.markOf(ctx, entry)
		case errors.Is(err, jetstream.ErrKeyNotFound): // it has just decided
			err = errBeingSized
		}
	}
	if err != nil {
		return nil, wrap("mark that the size of the partitions is being decided", err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), setupTimeout)
		defer cancel()
		_, err := jet.Ask(ctx, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, l.cluster.Delete(ctx, sizingKey, jetstream.LastRevision(mark))
		})
		// Another revision: it is deleted already.
		if err != nil && !errors.Is(raced(err), errRaced) {
			l.logger.Warn("the mark that the size of the partitions is being decided could not be removed; others wait for it to age",
				"age", sizingAge, "error", err)
		}
	}, nil
}

// markOf returns the revision of a mark if it is this node's own, the answer to
// which was lost. One that is too old is removed for the next try.
func (l *Log) markOf(ctx context.Context, entry jetstream.KeyValueEntry) (uint64, error) {
	if string(entry.Value()) == l.sizer {
		return entry.Revision(), nil
	}
	if time.Since(entry.Created()) > sizingAge {
		_ = l.cluster.Delete(ctx, sizingKey, jetstream.LastRevision(entry.Revision())) // whoever fails tries again
	}
	return 0, errBeingSized
}

// bytesThatFit returns wanted, or less where there is no room for it: what the
// partitions have, or at first a fraction.
func (l *Log) bytesThatFit(ctx context.Context, have, wanted int64) (int64, error) {
	most, err := l.jet.LargestStream(ctx)
	if err != nil {
		return 0, wrap("ask how large a stream may be", err)
	}
	if most > 0 {
		wanted = min(wanted, most)
	}
	for bytes := wanted; bytes > have; bytes /= 2 {
		if bytes < min(wanted, minPartitionBytes) {
			return 0, fmt.Errorf("%w: NATS cannot reserve even %s for each of %d partitions",
				ErrUnavailable, settings.ByteSize(minPartitionBytes), l.cfg.Partitions)
		}
		needed := l.cfg.reservedBytes(bytes) - l.cfg.reservedBytes(have)
		if most > 0 {
			needed = min(needed, most) // more cannot be asked for at once
		}
		fits, err := l.jet.CanReserve(ctx, needed, l.cfg.StreamReplicas)
		if err != nil || fits {
			return bytes, err
		}
		if have != 0 {
			return have, nil
		}
	}
	return wanted, nil
}
