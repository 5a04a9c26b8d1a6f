package eventlog

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Ack is the log's receipt for an event: it is stored, on as many servers as
// the log has replicas.
type Ack struct {
	Partition event.Partition
	// Sequence is where the event stands; that of the first for a duplicate.
	Sequence uint64
	// Duplicate: the event was there already, within the duplicate window.
	Duplicate bool
}

// Publish stores an event and returns when it is stored. Published again with
// the same id within the duplicate window, it is stored once. Where the error
// is ErrUnavailable, the event may have been stored or not.
func (l *Log) Publish(ctx context.Context, orchestrator event.Token, eventID string, body []byte) (Ack, error) {
	type outcome struct {
		ack Ack
		err error
	}
	outcomes := make(chan outcome, 1)
	l.PublishAsync(ctx, orchestrator, eventID, body, func(ack Ack, err error) { outcomes <- outcome{ack, err} })
	o := <-outcomes
	return o.ack, o.err
}

// PublishAsync is Publish in the background: done is called exactly once, from
// another goroutine, at once or after some seconds at most, and must not block.
// How many are under way is for the caller to bound, and their order is that of
// the calls only where the caller waits for one before the next.
func (l *Log) PublishAsync(ctx context.Context, orchestrator event.Token, eventID string, body []byte, done func(Ack, error)) {
	start := time.Now()
	p := l.Partition(orchestrator)
	msg := &nats.Msg{
		Subject: event.Subject(p, orchestrator),
		Header:  nats.Header{jetstream.MsgIDHeader: {event.MessageID(orchestrator, eventID)}},
		Data:    body,
	}
	trace := l.traceOn(ctx, msg)
	l.jet.StoreAsync(ctx, event.StreamName(p), msg, func(ack *jetstream.PubAck, err error) {
		l.metrics.observeTraced(opPublish, start, err, trace)
		if err != nil {
			done(Ack{}, fmt.Errorf("publish to partition %d: %w", p, err))
			return
		}
		done(Ack{Partition: p, Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil)
	})
}

// Replace stores the value of a KV bucket's key if the key still has a revision,
// of which 0 is that it has no value, and returns the new one. A conflict is a
// jetstream.APIError; whoever was not answered in time may have written all the
// same, and finds that when it reads again.
func (l *Log) Replace(ctx context.Context, bucket, key string, value []byte, revision uint64) (uint64, error) {
	ack, err := l.jet.Store(ctx, BucketStream(bucket), &nats.Msg{
		Subject: l.jet.KeySubject(bucket, key),
		Header:  nats.Header{jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(revision, 10)}},
		Data:    value,
	})
	if err != nil {
		return 0, fmt.Errorf("replace %s in bucket %s: %w", key, bucket, err)
	}
	return ack.Sequence, nil
}

// Purged reports whether the event that a publish was acknowledged with was removed
// by hand. NATS goes on to recognize its id (nats-io/nats-server#6782), so what counts
// as a duplicate may be gone. An event that as many newer ones of its orchestrator
// have replaced as are kept of one was not purged.
func (l *Log) Purged(ctx context.Context, orchestrator event.Token, ack Ack) (bool, error) {
	var place jet.Place
	err := l.jet.Request(ctx, func(ctx context.Context) (err error) {
		place, err = l.jet.At(ctx, event.StreamName(ack.Partition), ack.Sequence)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("look for event %d of partition %d: %w", ack.Sequence, ack.Partition, err)
	}
	if place.Sequence != 0 {
		return false, nil
	}
	newer, err := l.Read(ctx, ack.Partition, orchestrator, ack.Sequence+1, 1, 1)
	return int64(len(newer.Messages))+int64(newer.Remaining) < l.cfg.EventsPerOrchestrator, err
}

// RenewSentinel publishes the sentinel of a partition: the one message that is
// always there, so that a question about orchestrators without events is
// answered with up to where the replica looked. To be called daily for each
// partition, since it expires like an event.
func (l *Log) RenewSentinel(ctx context.Context, p event.Partition) error {
	_, err := l.jet.Store(ctx, event.StreamName(p), &nats.Msg{
		Subject: event.Subject(p, event.SentinelToken),
		Data:    []byte("{}"),
	})
	if err != nil {
		return fmt.Errorf("renew the sentinel of partition %d: %w", p, err)
	}
	l.metrics.sentinels.Inc()
	return nil
}
