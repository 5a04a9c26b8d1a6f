package gatewayctl

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// eachHead calls yield with the head of each message of some subjects that stands
// in a stream now, in order.
func eachHead(ctx context.Context, js jetstream.JetStream, stream string, subjects []string, yield func(jetstream.Msg, *jetstream.MsgMetadata)) error {
	return each(ctx, js, stream, jetstream.OrderedConsumerConfig{FilterSubjects: subjects, HeadersOnly: true}, yield)
}

// each is eachHead for whole messages, or what else a consumer is to bring.
func each(ctx context.Context, js jetstream.JetStream, stream string, cfg jetstream.OrderedConsumerConfig, yield func(jetstream.Msg, *jetstream.MsgMetadata)) error {
	consumer, err := js.OrderedConsumer(ctx, stream, cfg)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, err)
	}
	if info.NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read stream %s: %w", stream, err)
		}
		at, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read stream %s: %w", stream, err)
		}
		yield(m, at)
		if at.NumPending == 0 {
			return nil
		}
	}
}
