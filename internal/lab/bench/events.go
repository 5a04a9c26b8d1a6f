package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// payloadText fills an event to about 420 bytes, a usual size.
const payloadText = "Could you have a look at the quarterly numbers before the meeting, and tell the others what you think of them? Thank you very much."

// next makes the next event; its payload says when it was made.
func (b *bench) next(f *fleet) (e event.Event, body []byte, err error) {
	e = traffic.Message(f.orchestrators[b.count%len(f.orchestrators)], fmt.Sprintf("event-%07d", b.count),
		fmt.Appendf(nil, `{"at":%d,"content":%q}`, time.Now().UnixNano(), payloadText))
	e.ChannelID, e.WorkspaceID = "channel-general", "workspace-1"
	b.count++
	body, err = e.MarshalJSON()
	return e, body, err
}

// toLog publishes n events as fast as the log takes them.
func (b *bench) toLog(ctx context.Context, f *fleet, n int) error {
	js := b.Log.JetStream()
	for range n {
		e, body, err := b.next(f)
		if err != nil {
			return err
		}
		token := event.TokenOf(e.OrchestratorID)
		msg := nats.NewMsg(event.Subject(event.PartitionOf(token, b.Partitions), token))
		msg.Header.Set(nats.MsgIdHdr, event.MessageID(token, e.ID))
		msg.Data = body
		if _, err := js.PublishMsgAsync(msg); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// toRedis publishes n events in pipelines.
func (b *bench) toRedis(ctx context.Context, f *fleet, n int) error {
	const pipeline = 200
	for i := 0; i < n; i += pipeline {
		var texts [][]byte
		for range min(pipeline, n-i) {
			_, body, err := b.next(f)
			if err != nil {
				return err
			}
			texts = append(texts, body)
		}
		if err := b.Feed.PublishRaw(ctx, texts...); err != nil {
			return err
		}
	}
	return nil
}

// throughput publishes as fast as can be, and measures until all has come.
func throughput(how string, publish func(*bench, context.Context, *fleet, int) error) func(*bench, context.Context) error {
	return func(b *bench, ctx context.Context) error {
		f, err := startFleet(ctx, b.options.daemons, b.Edges, func(protocol.Event) {})
		if err != nil {
			return err
		}
		defer f.stop()
		n := float64(b.options.events)
		var published, took time.Duration
		cost, err := b.cost(ctx, func() (float64, error) {
			start := time.Now()
			if err := publish(b, ctx, f, b.options.events); err != nil {
				return 0, err
			}
			published = time.Since(start)
			err := f.await(ctx, &f.received, int64(b.options.events))
			took = time.Since(start)
			return n, err
		})
		if err != nil {
			return err
		}
		b.row("throughput, "+how, "%.0f events/s delivered (%.0f/s taken; %d events, %d daemons, %d repeats)",
			n/took.Seconds(), n/published.Seconds(), b.options.events, b.options.daemons, f.repeated.Load())
		b.row("CPU an event in that run", "%s", cost)
		return nil
	}
}

// latency publishes at a fixed rate on Redis and measures until the handler of
// the daemon has the event.
func (b *bench) latency(ctx context.Context) error {
	var mu sync.Mutex
	var took []time.Duration
	f, err := startFleet(ctx, b.options.daemons, b.Edges, func(e protocol.Event) {
		var payload struct{ At int64 }
		if json.Unmarshal(e.Data, &payload) == nil {
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(time.Unix(0, payload.At)))
		}
	})
	if err != nil {
		return err
	}
	defer f.stop()
	for _, rate := range []int{b.options.rate, 4 * b.options.rate} {
		n := int(b.options.duration.Seconds() * float64(rate))
		took = nil // all of the run before has come
		f.received.Store(0)
		if err := b.pace(ctx, f, n, rate); err != nil {
			return err
		}
		if err := f.await(ctx, &f.received, int64(n)); err != nil {
			return err
		}
		at := func(q float64) time.Duration { return lab.Percentile(took, q).Round(10 * time.Microsecond) }
		b.row(fmt.Sprintf("latency at %d events/s, PUBLISH to handler", rate), "p50 %s, p90 %s, p99 %s, p99.9 %s, max %s", at(.5), at(.9), at(.99), at(.999), at(1))
	}
	return nil
}

// pace publishes one event at a time, evenly; when late it does not wait.
func (b *bench) pace(ctx context.Context, f *fleet, n, rate int) error {
	start := time.Now()
	for i := range n {
		if wait := time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(rate))); wait > 0 {
			traffic.Wait(ctx, wait)
		}
		_, body, err := b.next(f)
		if err != nil {
			return err
		}
		if err := b.Feed.PublishRaw(ctx, body); err != nil {
			return err
		}
	}
	return ctx.Err()
}
