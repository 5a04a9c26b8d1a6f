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

// What a backup and its restoration need. They do not open the log: that would
// create what is missing, which is to be restored.

// Epochs returns the epoch of each partition as the cluster bucket has it.
func Epochs(ctx context.Context, js jetstream.JetStream) ([]Epoch, error) {
	cluster, err := openBucket(ctx, js, ClusterBucket)
	if err != nil {
		return nil, err
	}
	entry, err := cluster.Get(ctx, event.PartitionsKey)
	if err != nil {
		return nil, fmt.Errorf("read the number of partitions: %w", err)
	}
	n, err := strconv.Atoi(string(entry.Value()))
	if err != nil || n < 1 {
		return nil, fmt.Errorf("the number of partitions is %q", entry.Value())
	}
	epochs := make([]Epoch, n)
	for p := range epochs {
		entry, err := cluster.Get(ctx, epochKey(event.Partition(p)))
		if err != nil {
			return nil, fmt.Errorf("read the epoch of partition %d: %w", p, err)
		}
		epochs[p] = Epoch(entry.Value())
	}
	return epochs, nil
}

// BeginEpoch writes an epoch for a partition that was restored from a backup,
// where it was in the epoch before, and returns it with the last sequence that
// the partition has. No node may be running.
//
// The counter rises to the time in seconds, not by one: the partition may have
// been in later epochs after the backup, of which nobody knows any more, and
// none of them may come back.
func BeginEpoch(ctx context.Context, js jetstream.JetStream, p event.Partition, before Epoch, now time.Time) (epoch Epoch, last uint64, err error) {
	stream, err := js.Stream(ctx, event.StreamName(p))
	if err != nil {
		return "", 0, fmt.Errorf("partition %d: %w", p, err)
	}
	cluster, err := openBucket(ctx, js, ClusterBucket)
	if err != nil {
		return "", 0, err
	}
	info := stream.CachedInfo()
	epoch = NewEpoch(info.Created, max(before.counter()+1, uint64(now.Unix())))
	_, err = cluster.Put(ctx, epochKey(p), []byte(epoch))
	return epoch, info.State.LastSeq, wrap(fmt.Sprintf("write the epoch of partition %d", p), err)
}

// MoveCheckpoint takes a partition's checkpoint over into another epoch, if it
// is of the one before. It is for BeginEpoch's callers, who know that it was
// saved before the partition was backed up.
func MoveCheckpoint(ctx context.Context, js jetstream.JetStream, p event.Partition, before, epoch Epoch) error {
	checkpoints, err := openBucket(ctx, js, CheckpointBucket)
	if err != nil {
		return err
	}
	entry, err := checkpoints.Get(ctx, strconv.Itoa(int(p)))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("checkpoint of partition %d: %w", p, err)
	}
	var c Checkpoint
	if json.Unmarshal(entry.Value(), &c) != nil || c.Epoch != before {
		return nil // routers ignore it
	}
	c.Epoch = epoch
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = checkpoints.Update(ctx, entry.Key(), data, entry.Revision())
	return wrap(fmt.Sprintf("write the checkpoint of partition %d", p), err)
}

func openBucket(ctx context.Context, js jetstream.JetStream, name string) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, name)
	return kv, wrap("open bucket "+name, err)
}
