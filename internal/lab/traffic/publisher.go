package traffic

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Channel is where Neolith publishes.
const Channel = "daemon:events"

// Publisher publishes on Redis as Neolith does. Its methods may be called at
// the same time; only calls that follow each other have an order.
type Publisher struct {
	ledger *ledger.Ledger
	redis  *redis.Client
}

// NewPublisher returns a publisher on a Redis server, host:port.
func NewPublisher(l *ledger.Ledger, addr string) *Publisher {
	// A command is never sent twice: that would be another publish.
	return &Publisher{ledger: l, redis: redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})}
}

// Close closes the connection to Redis.
func (p *Publisher) Close() error { return p.redis.Close() }

// Publish publishes events in one pipeline, in order. It fails if nobody heard
// one of them, since then Redis has lost it.
func (p *Publisher) Publish(ctx context.Context, events []event.Event) error {
	pipe := p.redis.Pipeline()
	for _, e := range events {
		// Not json.Marshal, which would rewrite the payload.
		text, err := e.MarshalJSON()
		if err != nil {
			return fmt.Errorf("publish %s: %w", e.ID, err)
		}
		p.ledger.Published(e)
		pipe.Publish(ctx, Channel, text)
	}
	return exec(ctx, pipe)
}

// PublishOne publishes one event and returns how many bridges heard it.
func (p *Publisher) PublishOne(ctx context.Context, e event.Event) (int64, error) {
	text, err := e.MarshalJSON()
	if err != nil {
		return 0, fmt.Errorf("publish %s: %w", e.ID, err)
	}
	p.ledger.Published(e)
	heard, err := p.redis.Publish(ctx, Channel, text).Result()
	if err != nil {
		return 0, fmt.Errorf("publish %s on Redis: %w", e.ID, err)
	}
	return heard, nil
}

// PublishRaw publishes what need not be an event; the ledger is not told.
func (p *Publisher) PublishRaw(ctx context.Context, texts ...[]byte) error {
	pipe := p.redis.Pipeline()
	for _, text := range texts {
		pipe.Publish(ctx, Channel, text)
	}
	return exec(ctx, pipe)
}

func exec(ctx context.Context, pipe redis.Pipeliner) error {
	results, err := pipe.Exec(ctx)
	if err != nil {
		return fmt.Errorf("publish on Redis: %w", err)
	}
	for i, r := range results {
		if heard, ok := r.(*redis.IntCmd); ok && heard.Val() == 0 {
			return fmt.Errorf("publish on Redis: nobody heard message %d of %d", i+1, len(results))
		}
	}
	return nil
}
