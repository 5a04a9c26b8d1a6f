package bridge

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/redisconn"
)

// canaryCalls is how many calls wait for their turn, more than there are edges;
// the NATS client drops the rest.
const canaryCalls = 1024

// canaries publishes one on Redis, on this bridge's own channel, for each call
// of an edge. From there on it is heard and stored like any event.
type canaries struct {
	nc      *nats.Conn
	redis   redis.UniversalClient
	channel string
	unfit   func() error // why no canary is wanted now, or nil
	metrics *metrics
	logger  *slog.Logger
	faults  rate.Sometimes
}

// Run answers calls until ctx ends.
func (c *canaries) Run(ctx context.Context) error {
	calls := make(chan *nats.Msg, canaryCalls)
	sub, err := c.nc.ChanSubscribe(canary.Subject, calls)
	if err != nil {
		return fmt.Errorf("subscribe to the canaries' calls: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be gone already
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-calls:
			if err := c.publish(ctx, m.Data); err != nil && ctx.Err() == nil {
				c.failed(err, calls)
			}
		}
	}
}

// failed counts a canary that was not published, and drops those that waited
// meanwhile and counts them too: they would only show how long they waited, and
// others follow. A canary counts as a success only when it is stored.
func (c *canaries) failed(err error, calls <-chan *nats.Msg) {
	c.metrics.canary(err)
	c.faults.Do(func() { c.logger.Warn("canary not published", "error", err) })
	for range len(calls) {
		<-calls
		c.metrics.canary(err)
	}
}

func (c *canaries) publish(ctx context.Context, data []byte) error {
	call, err := canary.ReadCall(data)
	if err != nil {
		return err
	}
	if err := c.unfit(); err != nil {
		return err
	}
	body, err := call.Event()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, redisconn.IOTimeout)
	defer cancel()
	if err := c.redis.Publish(ctx, c.channel, body).Err(); err != nil {
		return fmt.Errorf("publish on Redis: %w", err)
	}
	return nil
}
