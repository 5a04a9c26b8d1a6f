package eventlog

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

// ask puts a question until it is answered or ctx ends, with growing patience.
// A cluster of servers that is electing a leader, or that is told to create and
// to delete the same stream at once, does not refuse requests but leaves them
// unanswered, so that to wait for one answer would cost the whole of ctx, long
// after the leader is there. f must do no harm when done twice.
func ask[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	return askFor(ctx, firstAsk, f)
}

// askFor is ask with another patience for the first try.
func askFor[T any](ctx context.Context, patience time.Duration, f func(context.Context) (T, error)) (T, error) {
	for ; ; patience += patience / 2 {
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

// stream asks the leader for a stream.
func (l *Log) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	return ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return l.js.Stream(ctx, name) })
}

// createStream creates a stream, or returns one that is there with the same
// settings.
func (l *Log) createStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	return ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return l.js.CreateStream(ctx, cfg) })
}

// bucket asks for a bucket.
func (l *Log) bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	return ask(ctx, func(ctx context.Context) (jetstream.KeyValue, error) { return l.js.KeyValue(ctx, name) })
}

// entry asks for a key of the cluster's bucket.
func (l *Log) entry(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	return ask(ctx, func(ctx context.Context) (jetstream.KeyValueEntry, error) { return l.cluster.Get(ctx, key) })
}
