package devcluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	demoDaemons  = 3
	demoInterval = 1500 * time.Millisecond // between two demo events
	// The last demo daemon comes and goes, to show that events wait for it.
	demoOnline  = 20 * time.Second
	demoOffline = 10 * time.Second
	demoToken   = time.Hour
)

var demoTypes = []protocol.EventType{"message.received", "vp.mentioned", "channel.joined", "call.started"}

// demo runs demo daemons and a demo publisher and tells what happens.
type demo struct {
	cluster *Cluster

	mu   sync.Mutex // one line at a time
	sent map[string]time.Time
}

func (c *Cluster) demo(ctx context.Context) error {
	d := &demo{cluster: c, sent: make(map[string]time.Time)}
	c.say("\nThe demo: %d daemons, and a publisher that speaks as Neolith does on Redis.\n", demoDaemons)
	group := lifecycle.NewGroup(ctx)
	for i := 1; i < demoDaemons; i++ {
		group.Go("demo daemon", func(ctx context.Context) error { return d.daemon(ctx, i) })
	}
	group.Go("demo daemon that comes and goes", d.restless)
	group.Go("demo publisher", d.publish)
	return group.Wait()
}

func demoOrchestrator(i int) protocol.OrchestratorID {
	return protocol.OrchestratorID(fmt.Sprintf("demo-%d", i))
}

// daemon runs one demo daemon until ctx ends.
func (d *demo) daemon(ctx context.Context, i int) error {
	orchestrator, id := demoOrchestrator(i), protocol.DaemonID(fmt.Sprintf("demo-daemon-%d", i))
	urls := d.cluster.EdgeURLs()
	first := (i - 1) % len(urls)
	c, err := client.New(client.Config{
		URLs:           append(urls[first:], urls[:first]...),
		OrchestratorID: orchestrator, DaemonID: id,
		Token: func(context.Context) (string, error) {
			return d.cluster.Token(orchestrator, id, demoToken)
		},
		Subscriptions: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		OnState: func(s client.StateChange) {
			switch s.State {
			case client.StateSubscribed:
				d.say("%-16s connected to %s", id, d.edgeAt(s.URL))
			case client.StateDisconnected:
				if ctx.Err() == nil {
					d.say("%-16s disconnected (%s), connects again in %s", id, s.Close, s.Delay.Round(time.Millisecond))
				}
			}
		},
		Handler: func(_ context.Context, e protocol.Event) error {
			d.received(id, e)
			return nil
		},
	})
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// restless runs the last demo daemon, which is away for a while now and then.
func (d *demo) restless(ctx context.Context) error {
	for ctx.Err() == nil {
		online, cancel := context.WithTimeout(ctx, demoOnline)
		if err := d.daemon(online, demoDaemons); err != nil && online.Err() == nil {
			cancel()
			return err
		}
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		d.say("demo-daemon-%d    goes away for %s; its events wait in the log", demoDaemons, demoOffline)
		select {
		case <-ctx.Done():
		case <-time.After(demoOffline):
		}
	}
	return nil
}

// publish publishes as Neolith does: PUBLISH on Redis, fire and forget.
func (d *demo) publish(ctx context.Context) error {
	options, err := redis.ParseURL(d.cluster.RedisURL())
	if err != nil {
		return fmt.Errorf("read the address of Redis: %w", err)
	}
	rdb := redis.NewClient(options)
	defer func() { _ = rdb.Close() }()
	ticker := time.NewTicker(demoInterval)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := d.publishOne(ctx, rdb, n); err != nil && ctx.Err() == nil {
				d.say("not published: %v", err)
			}
		}
	}
}

func (d *demo) publishOne(ctx context.Context, rdb *redis.Client, n int) error {
	now := time.Now()
	e := event.Event{
		ID:             fmt.Sprintf("demo-%d-%d", now.UnixMilli(), n),
		Type:           demoTypes[rand.IntN(len(demoTypes))],
		OrchestratorID: demoOrchestrator(1 + rand.IntN(demoDaemons)),
		Payload:        fmt.Appendf(nil, `{"content":"demo event %d"}`, n),
		Timestamp:      now.UTC().Format("2006-01-02T15:04:05.000Z"),
		RequiresAck:    true,
	}
	body, err := e.MarshalJSON()
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.sent[e.ID] = now
	d.mu.Unlock()
	return rdb.Publish(ctx, "daemon:events", body).Err()
}

func (d *demo) received(id protocol.DaemonID, e protocol.Event) {
	d.mu.Lock()
	published, known := d.sent[e.EventID]
	delete(d.sent, e.EventID)
	d.mu.Unlock()
	after := "published before this start"
	if known {
		after = time.Since(published).Round(100*time.Microsecond).String() + " after its PUBLISH"
	}
	d.say("%-16s received %-18s %s  %s", id, e.EventType, e.Data, after)
}

func (d *demo) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cluster.say(time.Now().Format("15:04:05.000")+"  "+format, args...)
}

// edgeAt names the edge behind an address.
func (d *demo) edgeAt(url string) string {
	for i, known := range d.cluster.EdgeURLs() {
		if known == url {
			return d.cluster.nodes[i].name
		}
	}
	return url
}
