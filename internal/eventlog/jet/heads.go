package jet

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// headsBatch is how many heads are fetched at a time, and headsWait how long
	// the server may take for them.
	headsBatch = 1000
	headsWait  = 5 * time.Second
	// headsBytes bounds what is read at a time where bodies come along.
	headsBytes = 1 << 20
)

// Head is a message without its body.
type Head struct {
	Sequence uint64
	Stored   time.Time
	Header   nats.Header
	// Bytes of the body that was read all the same.
	Bytes int
}

// Heads calls yield for the head of each message of one subject from a sequence on.
// Only a consumer spares sending the bodies. A client that just uses what others
// have made has none, because whoever may make consumers may have the server push
// stored messages to any subject: it reads the bodies as well, a MiB at a time, and
// ends when that have been maxBytes; more then reports that there are others.
func (c *Client) Heads(ctx context.Context, stream, subject string, from uint64, maxBytes int, yield func(Head)) (more bool, err error) {
	if c.rights == Use {
		return c.headsOfAll(ctx, stream, subject, from, maxBytes, yield)
	}
	return false, Classify(c.headsAlone(ctx, stream, subject, from, yield))
}

// headsOfAll is Heads with direct gets, which any replica answers. One that passes
// over messages is not believed: who asks for all must not take what is left for
// that.
func (c *Client) headsOfAll(ctx context.Context, stream, subject string, from uint64, maxBytes int, yield func(Head)) (more bool, err error) {
	for read := 0; read < maxBytes; {
		page, err := c.Read(ctx, stream, ReadRequest{Subject: subject, From: from, Batch: headsBatch, MaxBytes: min(headsBytes, maxBytes-read)})
		if err != nil {
			return false, err
		}
		if page.Unreadable {
			return false, fmt.Errorf("%w: a replica cannot read all of %s", ErrUnavailable, subject)
		}
		for _, m := range page.Messages {
			yield(Head{Sequence: m.Sequence, Stored: m.Stored, Header: m.header, Bytes: len(m.Data)})
			from, read = m.Sequence+1, read+len(m.Data)
		}
		if page.Remaining == 0 || len(page.Messages) == 0 {
			return false, nil
		}
	}
	return true, nil
}

// headsAlone is Heads with a consumer: the leader does not send the bodies.
func (c *Client) headsAlone(ctx context.Context, stream, subject string, from uint64, yield func(Head)) error {
	name := "heads" + rand.Text()
	var consumer jetstream.Consumer
	err := c.Request(ctx, func(ctx context.Context) (err error) {
		consumer, err = Ask(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
			return c.JS.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
				Name:              name,
				Description:       "Daemon gateway: what an orchestrator has",
				FilterSubject:     subject,
				DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
				OptStartSeq:       from,
				AckPolicy:         jetstream.AckNonePolicy,
				HeadersOnly:       true,
				InactiveThreshold: consumerInactive,
				MemoryStorage:     true,
				Replicas:          1,
			})
		})
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
		defer cancel()
		if err := c.JS.DeleteConsumer(ctx, stream, name); err != nil {
			c.logger.Debug("consumer is left to expire", "stream", stream, "error", err)
		}
	}()
	delivered := uint64(0)
	for left := consumer.CachedInfo().NumPending; left > 0 && ctx.Err() == nil; {
		batch, err := consumer.Fetch(int(min(left, headsBatch)), jetstream.FetchMaxWait(headsWait))
		if err != nil {
			return err
		}
		before := delivered
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			if delivered++; meta.Sequence.Consumer != delivered {
				return fmt.Errorf("%w: message %d of the consumer came as number %d", ErrUnavailable, meta.Sequence.Consumer, delivered)
			}
			yield(Head{Sequence: meta.Sequence.Stream, Stored: meta.Timestamp, Header: m.Headers()})
			left = meta.NumPending
		}
		if err := batch.Error(); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if delivered == before {
			return fmt.Errorf("%w: %d messages did not come within %v", ErrUnavailable, left, headsWait)
		}
	}
	return ctx.Err()
}
