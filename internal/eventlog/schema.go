package eventlog

import (
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// What the gateway keeps in JetStream beside the partitions of the log.
const (
	// DeadletterStream holds what was not delivered and never will be.
	DeadletterStream = "DAEMON_DEADLETTERS"
	// CheckpointBucket holds how far the routers have come in each partition.
	CheckpointBucket = "gateway_checkpoints"
	// ClusterBucket holds what all nodes must agree on: the number of
	// partitions and the epoch of each.
	ClusterBucket = event.ClusterBucket
)

const deadletterPrefix = "daemon.deadletters"

// cursorMargin is what a cursor outlives the events that it speaks of. It only
// has to cover clocks and pauses: what a cursor settled was stored before the
// cursor was written, so it expires before the cursor does.
const cursorMargin = 24 * time.Hour

// bucketDuplicates is the duplicate window of buckets, which nobody needs: it is
// what the client library gives them.
const bucketDuplicates = 2 * time.Minute

// CursorBucket is the KV bucket with the cursors of a partition's orchestrators.
func CursorBucket(p event.Partition) string { return "daemon_cursors_" + strconv.Itoa(int(p)) }

// BucketStream is the stream behind a KV bucket, as LastMessages wants it.
func BucketStream(bucket string) string { return "KV_" + bucket }

// BucketSubject is the subject under which a key of a KV bucket is stored.
func BucketSubject(bucket, key string) string { return "$KV." + bucket + "." + key }

// SubjectMapping returns the subject mapping that a NATS server needs for
// backends to publish to daemon.events.<orchestrator token>: what is published
// to source goes to destination, which adds the partition.
func SubjectMapping(partitions int) (source, destination string) {
	return event.SubjectPrefix + ".*",
		fmt.Sprintf("%s.{{partition(%d,1)}}.{{wildcard(1)}}", event.SubjectPrefix, partitions)
}

func (c Config) partitionStream(p event.Partition) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        event.StreamName(p),
		Description: "Daemon gateway: events of partition " + strconv.Itoa(int(p)),
		Subjects:    []string{event.Subject(p, "*")},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		// A subject over its limit drops its own oldest message. A stream over
		// its size must not do likewise: it would drop the events of
		// orchestrators that have done nothing but wait. So it refuses.
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: false,
		MaxMsgsPerSubject:    c.EventsPerOrchestrator,
		MaxBytes:             int64(c.LogMaxBytes),
		MaxAge:               c.EventRetention,
		Duplicates:           c.DuplicateWindow,
		Replicas:             c.StreamReplicas,
		AllowDirect:          true,
		DenyDelete:           true,
	}
}

// deadletters drops the oldest when it is full, unlike the log: were it to
// refuse, one backend's rubbish could halt the partitions, whose routers go on
// only after a dead letter is stored. Operators remove single ones, as no tier's user
// may.
func (c Config) deadletters() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        DeadletterStream,
		Description: "Daemon gateway: events that were refused or given up",
		Subjects:    []string{deadletterPrefix + ".>"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxBytes:    int64(c.LogMaxBytes),
		MaxAge:      c.DeadletterRetention,
		Duplicates:  min(c.DuplicateWindow, c.DeadletterRetention),
		Replicas:    c.StreamReplicas,
		AllowDirect: true,
	}
}

// buckets all have a size, as the streams do: some accounts of NATS require one of
// everything that is stored.
func (c Config) buckets() []jetstream.StreamConfig {
	list := []jetstream.StreamConfig{
		c.bucket(CheckpointBucket, "how far the routers have come", 0, minBucketBytes),
		c.bucket(ClusterBucket, "number of partitions, epochs", 0, minBucketBytes),
		c.bucket(revocation.Bucket, "revoked tokens, daemons and orchestrators", revocation.Lifetime, revocationBytes),
	}
	for p := range event.Partition(c.Partitions) {
		list = append(list, c.bucket(CursorBucket(p), "cursors of partition "+strconv.Itoa(int(p)),
			c.EventRetention+cursorMargin, c.cursorBytes(int64(c.LogMaxBytes))))
	}
	return list
}

// bucket is the stream of a KV bucket whose entries live for ttl, 0: for good. It
// is what the client library would make, but for what package jet sees to.
func (c Config) bucket(name, content string, ttl time.Duration, bytes int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              BucketStream(name),
		Description:       "Daemon gateway: " + content,
		Subjects:          []string{BucketSubject(name, ">")},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxMsgsPerSubject: 1,
		MaxBytes:          bytes,
		MaxAge:            ttl,
		Duplicates:        bucketDuplicates,
		Replicas:          c.StreamReplicas,
		AllowDirect:       true,
		DenyDelete:        true,
	}
}
