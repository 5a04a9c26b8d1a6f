package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// Checkpoint is how far the routers have come in a partition: everything up to
// Sequence was handed over or had no owner.
type Checkpoint struct {
	Epoch    Epoch  `json:"epoch"`
	Sequence uint64 `json:"sequence"`
	// Seen is the newest message that the routers have seen: what the partition
	// is recognized by after a pause in which it may have been rolled back. Zero
	// in checkpoints of routers that did not note it.
	Seen Mark `json:"seen"`
}

// Mark returns by what the partition is recognized.
func (c Checkpoint) Mark() Mark {
	if c.Seen.Sequence < c.Sequence {
		return Mark{Sequence: c.Sequence}
	}
	return c.Seen
}

// LoadCheckpoint returns a partition's checkpoint, and whether there is one. It
// may be an older one than was last saved, which costs repeats.
func (l *Log) LoadCheckpoint(ctx context.Context, p event.Partition) (Checkpoint, bool, error) {
	start := time.Now()
	var entry jetstream.KeyValueEntry
	err := l.jet.Request(ctx, func(ctx context.Context) (err error) {
		entry, err = l.checkpoints.Get(ctx, strconv.Itoa(int(p)))
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		return err
	})
	l.metrics.observe(opCheckpoint, start, err)
	if err != nil {
		return Checkpoint{}, false, fmt.Errorf("load the checkpoint of partition %d: %w", p, err)
	}
	if entry == nil {
		return Checkpoint{}, false, nil
	}
	var c Checkpoint
	if err := json.Unmarshal(entry.Value(), &c); err != nil {
		// Without a checkpoint the partition starts from its oldest event.
		l.logger.Error("checkpoint is unreadable and ignored", "partition", p, "error", err)
		return Checkpoint{}, false, nil
	}
	return c, true, nil
}

// SaveCheckpoint stores a partition's checkpoint. It is not compared with the
// one that is there: two routers that both believe to own the partition may
// overwrite each other, and both are right.
func (l *Log) SaveCheckpoint(ctx context.Context, p event.Partition, c Checkpoint) error {
	start := time.Now()
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	err = l.jet.Request(ctx, func(ctx context.Context) error {
		_, err := l.checkpoints.Put(ctx, strconv.Itoa(int(p)), data)
		return err
	})
	l.metrics.observe(opCheckpoint, start, err)
	return wrap(fmt.Sprintf("save the checkpoint of partition %d", p), err)
}
