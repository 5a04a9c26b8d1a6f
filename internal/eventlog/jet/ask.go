package jet

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// firstAsk is how long the first try of a question may take; each further one
// may take half as long again.
const firstAsk = 250 * time.Millisecond

// Ask puts a question until it is answered or ctx ends, with growing patience.
// A cluster of servers that is electing a leader, or that is told to create and
// to delete the same stream at once, does not refuse requests but leaves them
// unanswered, so that to wait for one answer would cost the whole of ctx, long
// after the leader is there. f must do no harm when done twice.
func Ask[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	for patience := firstAsk; ; patience += patience / 2 {
		bounded, cancel := context.WithTimeout(ctx, patience)
		answer, err := f(bounded)
		unanswered := err != nil && bounded.Err() != nil && ctx.Err() == nil &&
			(errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout))
		cancel()
		if !unanswered {
			return answer, err
		}
	}
}

// Stream asks the leader for a stream.
func (c *Client) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	return Ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return c.JS.Stream(ctx, name) })
}

// Bucket asks for a bucket.
func (c *Client) Bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	return Ask(ctx, func(ctx context.Context) (jetstream.KeyValue, error) { return c.JS.KeyValue(ctx, name) })
}

// Entry asks for a key of a bucket.
func Entry(ctx context.Context, bucket jetstream.KeyValue, key string) (jetstream.KeyValueEntry, error) {
	return Ask(ctx, func(ctx context.Context) (jetstream.KeyValueEntry, error) { return bucket.Get(ctx, key) })
}
