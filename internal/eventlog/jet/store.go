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
	// firstStore is how long the first try may take, more than a disk does.
	firstStore = 500 * time.Millisecond
	// electionPoll is how soon a stream that has no leader is tried again, and
	// electionPolls how often, all within firstStore. A leader that leaves in order
	// is followed by the next one within milliseconds.
	electionPoll, electionPolls = 25 * time.Millisecond, 16
)

// Store publishes a message into a stream and waits until it is stored. A leader
// that leaves stores what it has taken and does not say so, while its successor
// knows: the message is published again before the time is over. It must have
// an id, or do no harm when stored twice.
func (c *Client) Store(ctx context.Context, stream string, msg *nats.Msg) (*jetstream.PubAck, error) {
	var ack *jetstream.PubAck
	err := c.Bounded(ctx, storeTimeout, func(ctx context.Context) (err error) {
		ack, err = askFor(ctx, firstStore, func(ctx context.Context) (*jetstream.PubAck, error) {
			return c.JS.PublishMsg(ctx, msg, jetstream.WithExpectStream(stream),
				jetstream.WithRetryWait(electionPoll), jetstream.WithRetryAttempts(electionPolls))
		})
		return err
	})
	return ack, err
}
