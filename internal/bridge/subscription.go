package bridge

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/redisconn"
)

// subscriptions are channels and patterns on Redis.
type subscriptions struct{ channels, patterns []string }

func (s subscriptions) len() int { return len(s.channels) + len(s.patterns) }

func (s subscriptions) String() string {
	return strings.Join(slices.Concat(s.channels, s.patterns), ", ")
}

// without returns those that are not among others.
func (s subscriptions) without(others subscriptions) subscriptions {
	among := func(list []string) func(string) bool {
		return func(name string) bool { return slices.Contains(list, name) }
	}
	return subscriptions{
		channels: slices.DeleteFunc(slices.Clone(s.channels), among(others.channels)),
		patterns: slices.DeleteFunc(slices.Clone(s.patterns), among(others.patterns)),
	}
}

// subscribe asks for all of them, in one command for each kind: Redis refuses a
// command as a whole if it forbids one of the names, and does not say which.
func (s subscriptions) subscribe(ctx context.Context, sub *redis.PubSub) error {
	if len(s.channels) > 0 {
		if err := sub.Subscribe(ctx, s.channels...); err != nil {
			return err
		}
	}
	if len(s.patterns) > 0 {
		return sub.PSubscribe(ctx, s.patterns...)
	}
	return nil
}

// forbidden tries each by itself, on a connection of its own, and returns those
// that Redis does not allow this user.
func (s subscriptions) forbidden(ctx context.Context, client redis.UniversalClient) (f subscriptions, err error) {
	sub := client.Subscribe(ctx)
	defer func() { _ = sub.Close() }()
	try := func(name string, subscribe func(context.Context, ...string) error, to *[]string) error {
		if err := subscribe(ctx, name); err != nil {
			return err
		}
		for {
			message, err := sub.ReceiveTimeout(ctx, redisconn.IOTimeout)
			switch {
			case redis.HasErrorPrefix(err, "NOPERM"):
				*to = append(*to, name)
				return nil
			case err != nil:
				return err
			}
			if confirmed, ok := message.(*redis.Subscription); ok && confirmed.Channel == name {
				return nil
			}
		}
	}
	for _, name := range s.channels {
		if err := try(name, sub.Subscribe, &f.channels); err != nil {
			return subscriptions{}, err
		}
	}
	for _, name := range s.patterns {
		if err := try(name, sub.PSubscribe, &f.patterns); err != nil {
			return subscriptions{}, err
		}
	}
	return f, nil
}
