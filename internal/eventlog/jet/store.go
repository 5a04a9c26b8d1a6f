package jet

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// storeTimeout is shorter than requestTimeout: a leader that stands still never
	// answers, the next one does, and what is published again is stored once.
	storeTimeout = 2 * time.Second
	// firstStore is how long the first try may take, more than a disk does. Each
	// further one may take half as long again.
	firstStore = 500 * time.Millisecond
	// electionPoll is how soon a stream that has no leader is tried again, and
	// electionPolls how often, all within firstStore. A leader that leaves
	// gracefully is followed by the next one within milliseconds.
	electionPoll, electionPolls = 25 * time.Millisecond, 16
)

// Store is StoreAsync, and waits until the message is stored.
func (c *Client) Store(ctx context.Context, stream string, msg *nats.Msg) (*jetstream.PubAck, error) {
	type outcome struct {
		ack *jetstream.PubAck
		err error
	}
	outcomes := make(chan outcome, 1)
	c.StoreAsync(ctx, stream, msg, func(ack *jetstream.PubAck, err error) { outcomes <- outcome{ack, err} })
	o := <-outcomes
	return o.ack, o.err
}

// StoreAsync publishes a message into a stream. A leader that leaves stores
// what it has taken and does not say so, while its successor knows: the message
// is published again before the time is over. It must have an id, or do no harm
// when stored twice. It belongs to StoreAsync, which changes it.
//
// done is called exactly once, from another goroutine, and must not block. Where
// the time is over or the connection lost, the error is ErrUnavailable; where the
// caller's context ends, it is that context's.
func (c *Client) StoreAsync(ctx context.Context, stream string, msg *nats.Msg, done func(*jetstream.PubAck, error)) {
	if msg.Header == nil {
		msg.Header = nats.Header{}
	}
	msg.Header[jetstream.ExpectedStreamHeader] = []string{stream}
	now := time.Now()
	tryEnds := now.Add(firstStore)
	s := &storing{
		ctx: ctx, msg: msg, done: done, until: now.Add(storeTimeout), patience: firstStore, tryEnds: tryEnds, again: tryEnds,
	}
	err := ctx.Err()
	if err == nil {
		err = c.storer.add(s)
	}
	if err != nil {
		go done(nil, Classify(err))
		return
	}
	c.storer.publish(s)
}
