package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	start := time.Now()
	p := l.Partition(orchestrator)
	ack, err := l.jet.Store(ctx, event.StreamName(p), &nats.Msg{
		Subject: event.Subject(p, orchestrator),
		Header:  nats.Header{jetstream.MsgIDHeader: {event.MessageID(orchestrator, eventID)}},
		Data:    body,
	})
	l.metrics.observe(opPublish, start, err)
	if err != nil {
		return Ack{}, fmt.Errorf("publish to partition %d: %w", p, err)
	}
	return Ack{Partition: p, Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}

// PublishAsync is Publish in the background: done is called exactly once, from
// a goroutine of its own, at once or after some seconds at most. It never
// blocks; how many are under way is for the caller to bound, and their order is
// that of the calls only where the caller waits for one before the next.
func (l *Log) PublishAsync(ctx context.Context, orchestrator event.Token, eventID string, body []byte, done func(Ack, error)) {
	go func() { done(l.Publish(ctx, orchestrator, eventID, body)) }()
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
