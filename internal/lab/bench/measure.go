package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	partitions = 16
	// payloadText fills an event to about 420 bytes, a usual size.
	payloadText = "Could you have a look at the quarterly numbers before the meeting, and tell the others what you think of them? Thank you very much."
)

// bench is a running cluster with a connection to its servers.
type bench struct {
	*cluster.Cluster
	nc    *nats.Conn
	js    jetstream.JetStream
	redis *redis.Client
	count int
}

func newBench(c *cluster.Cluster) (*bench, error) {
	nc, err := nats.Connect(c.NATS[0].URL())
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return nil, err
	}
	return &bench{Cluster: c, nc: nc, js: js, redis: redis.NewClient(&redis.Options{Addr: c.Redis.Addr})}, nil
}

func (b *bench) close() {
	_ = b.redis.Close()
	b.nc.Close()
}

// next makes an event; its payload says when it was made.
func (b *bench) next(to protocol.OrchestratorID) (id string, body []byte, err error) {
	b.count++
	e := event.Event{
		ID: fmt.Sprintf("event-%07d", b.count), Type: "message.received", OrchestratorID: to, RequiresAck: true,
		Payload:   fmt.Appendf(nil, `{"at":%d,"content":%q}`, time.Now().UnixNano(), payloadText),
		Timestamp: "2026-11-22T10:00:00.000Z", ChannelID: "channel-general", WorkspaceID: "workspace-1",
	}
	body, err = e.MarshalJSON()
	return e.ID, body, err
}

// toLog publishes n events as fast as the log takes them.
func (b *bench) toLog(ctx context.Context, f *fleet, n int) error {
	for i := range n {
		to := f.orchestrators[i%len(f.orchestrators)]
		id, body, err := b.next(to)
		if err != nil {
			return err
		}
		token := event.TokenOf(to)
		msg := nats.NewMsg(event.Subject(event.PartitionOf(token, partitions), token))
		msg.Header.Set(nats.MsgIdHdr, event.MessageID(token, id))
		msg.Data = body
		if _, err := b.js.PublishMsgAsync(msg); err != nil {
			return err
		}
	}
	select {
	case <-b.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// toRedis publishes n events in pipelines.
func (b *bench) toRedis(ctx context.Context, f *fleet, n int) error {
	const pipeline = 200
	for i := 0; i < n; {
		pipe := b.redis.Pipeline()
		for range min(pipeline, n-i) {
			_, body, err := b.next(f.orchestrators[i%len(f.orchestrators)])
			if err != nil {
				return err
			}
			pipe.Publish(ctx, "daemon:events", body)
			i++
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// cpu returns the CPU seconds that each tier has used.
func (b *bench) cpu(ctx context.Context) (map[string]float64, error) {
	used := make(map[string]float64)
	for tier, nodes := range map[string][]*cluster.Node{"edges": b.Edges, "routers": b.Routers, "bridges": b.Bridges} {
		for _, n := range nodes {
			seconds, err := n.Metric(ctx, "process_cpu_seconds_total")
			if err != nil {
				return nil, err
			}
			used[tier] += seconds
		}
	}
	return used, nil
}

func throughputFromLog(ctx context.Context, b *bench, o options, t *table) error {
	return throughput(ctx, b, o, t, "published to the log", b.toLog)
}

func throughputFromRedis(ctx context.Context, b *bench, o options, t *table) error {
	return throughput(ctx, b, o, t, "published on Redis", b.toRedis)
}

func throughput(ctx context.Context, b *bench, o options, t *table, how string, publish func(context.Context, *fleet, int) error) error {
	f, err := startFleet(ctx, o.daemons, b.Edges, func(protocol.Event) {})
	if err != nil {
		return err
	}
	defer f.stop()
	before, err := b.cpu(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := publish(ctx, f, o.events); err != nil {
		return err
	}
	published := time.Since(start)
	if err := f.await(ctx, &f.received, int64(o.events)); err != nil {
		return fmt.Errorf("%w\n%s", err, b.Report(10))
	}
	took := time.Since(start)
	after, err := b.cpu(ctx)
	if err != nil {
		return err
	}
	perEvent := func(tier string) float64 { return (after[tier] - before[tier]) / float64(o.events) * 1e6 }
	n := float64(o.events)
	t.row(fmt.Sprintf("throughput, %s", how), "%.0f events/s delivered (%.0f/s taken; %d events, %d daemons, %d repeats)",
		n/took.Seconds(), n/published.Seconds(), o.events, o.daemons, f.repeated.Load())
	t.row("CPU an event in that run", "bridges %.0f µs, routers %.0f µs, edges %.0f µs", perEvent("bridges"), perEvent("routers"), perEvent("edges"))
	return nil
}

// latency publishes at a fixed rate on Redis and measures until the handler of
// the daemon has the event.
func latency(ctx context.Context, b *bench, o options, t *table) error {
	var mu sync.Mutex
	var took []time.Duration
	f, err := startFleet(ctx, o.daemons, b.Edges, func(e protocol.Event) {
		var payload struct{ At int64 }
		if json.Unmarshal(e.Data, &payload) == nil {
			mu.Lock()
			took = append(took, time.Since(time.Unix(0, payload.At)))
			mu.Unlock()
		}
	})
	if err != nil {
		return err
	}
	defer f.stop()
	for _, rate := range []int{o.rate, 4 * o.rate} {
		n := int(o.duration.Seconds() * float64(rate))
		mu.Lock()
		took = nil
		mu.Unlock()
		f.received.Store(0)
		if err := b.pace(ctx, f, n, rate); err != nil {
			return err
		}
		if err := f.await(ctx, &f.received, int64(n)); err != nil {
			return err
		}
		mu.Lock()
		slices.Sort(took)
		at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))].Round(10 * time.Microsecond) }
		t.row(fmt.Sprintf("latency at %d events/s, PUBLISH to handler", rate), "p50 %s, p90 %s, p99 %s, p99.9 %s, max %s", at(.5), at(.9), at(.99), at(.999), at(1))
		mu.Unlock()
	}
	return nil
}

// pace publishes one event at a time, evenly; when late it does not wait.
func (b *bench) pace(ctx context.Context, f *fleet, n, rate int) error {
	start := time.Now()
	for i := range n {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
			}
		}
		_, body, err := b.next(f.orchestrators[i%len(f.orchestrators)])
		if err != nil {
			return err
		}
		if err := b.redis.Publish(ctx, "daemon:events", body).Err(); err != nil {
			return err
		}
	}
	return nil
}

// idle connects many daemons to one edge and measures its memory.
func idle(ctx context.Context, b *bench, o options, t *table) error {
	edge := b.Edges[:1]
	memory := func() (resident, inUse float64, err error) {
		resident, err = edge[0].Metric(ctx, "process_resident_memory_bytes")
		if err != nil {
			return 0, 0, err
		}
		for _, name := range []string{"go_memstats_heap_inuse_bytes", "go_memstats_stack_inuse_bytes"} {
			v, err := edge[0].Metric(ctx, name)
			if err != nil {
				return 0, 0, err
			}
			inUse += v
		}
		return resident, inUse, nil
	}
	resident, inUse, err := memory()
	if err != nil {
		return err
	}
	start := time.Now()
	f, err := startFleet(ctx, o.idle, edge, func(protocol.Event) {})
	if err != nil {
		return err
	}
	defer f.stop()
	took := time.Since(start)
	residentAfter, inUseAfter, err := memory()
	if err != nil {
		return err
	}
	n := float64(o.idle)
	t.row("attaching (connect, authenticate, subscribe, cursor)", "%.0f connections/s over %d connections of one edge", n/took.Seconds(), o.idle)
	t.row("memory of an idle connection", "%.1f KiB resident, %.1f KiB of heap and stacks in use", (residentAfter-resident)/n/1024, (inUseAfter-inUse)/n/1024)
	return nil
}
