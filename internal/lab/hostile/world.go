package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	partitions = 16
	// patience bounds what must not take long: starting, and the last events.
	patience = time.Minute
)

// world is a cluster with one edge, its well-behaved daemons, and their events.
type world struct {
	*cluster.Cluster
	options   options
	ledger    *ledger.Ledger
	publisher *traffic.Publisher
	log       *traffic.Log
	daemons   []*traffic.Daemon
	stop      context.CancelFunc // of the publishing
	published sync.WaitGroup
	failed    error // of the publishing, read after published

	mu        sync.Mutex
	latencies []time.Duration // since the last take
}

func newWorld(ctx context.Context, o options, binaries cluster.Binaries, dir string) (*world, error) {
	c, err := cluster.New(cluster.Config{
		Binaries: binaries, Dir: dir, Bridges: 1, Routers: 1, Edges: 1,
		Settings: map[string]string{
			"LOG_LEVEL": "warn",
			// For garbage collections at will: heaps are compared after one.
			"ENABLE_PPROF": "true",
			// The harness lifts this limit; attackers are to meet it as it is.
			"RATE_CONNECTS_PER_IP": "20",
			// No event is to go because there are newer ones.
			"EVENTS_PER_ORCHESTRATOR": "1000000",
		},
	})
	if err != nil {
		return nil, err
	}
	w := &world{Cluster: c, options: o, ledger: ledger.New(), stop: func() {}}
	if err := w.start(ctx); err != nil {
		report := c.Report(20)
		w.close()
		return nil, fmt.Errorf("%w\n%s", err, report)
	}
	return w, nil
}

func (w *world) start(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.Start(bounded); err != nil {
		return err
	}
	var err error
	if w.log, err = traffic.OpenLog(w.NATS[0].URL()); err != nil {
		return err
	}
	w.publisher = traffic.NewPublisher(w.ledger, w.Redis.Addr)
	for i := range w.options.daemons {
		d, err := traffic.StartDaemon(w.ledger, w.profile(i))
		if err != nil {
			return err
		}
		w.daemons = append(w.daemons, d)
	}
	for _, d := range w.daemons {
		if err := d.AwaitSubscribed(bounded); err != nil {
			return err
		}
	}
	publishing, stop := context.WithCancel(ctx)
	w.stop = stop
	w.published.Go(func() { w.failed = w.publish(publishing) })
	return nil
}

func orchestrator(i int) protocol.OrchestratorID {
	return protocol.OrchestratorID(fmt.Sprintf("well-behaved-%d", i))
}

func (w *world) profile(i int) traffic.Profile {
	return traffic.Profile{
		Seat: ledger.Seat(orchestrator(i)), Orchestrator: orchestrator(i), Daemon: protocol.DaemonID(fmt.Sprintf("daemon-%d", i)),
		Subscribes: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		URLs:       []string{w.Edges[0].URL}, Secret: cluster.Secret,
		Handle: func(_ context.Context, e protocol.Event) error {
			var payload struct{ At int64 }
			if err := json.Unmarshal(e.Data, &payload); err == nil && !e.Redelivered {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.latencies = append(w.latencies, time.Since(time.Unix(0, payload.At)))
			}
			return nil
		},
	}
}

// publish publishes at a steady rate until ctx ends.
func (w *world) publish(ctx context.Context) error {
	tick := time.NewTicker(time.Second / time.Duration(w.options.rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		e := event.Event{
			ID: fmt.Sprintf("event-%d", n), Type: "message.received", OrchestratorID: orchestrator(n % w.options.daemons), RequiresAck: true,
			Payload: fmt.Appendf(nil, `{"at":%d}`, time.Now().UnixNano()), Timestamp: "2026-11-22T10:00:00.000Z",
		}
		if err := w.publisher.Publish(context.WithoutCancel(ctx), []event.Event{e}); err != nil {
			return err
		}
	}
}

// take returns the latencies since the last call.
func (w *world) take() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.latencies
	w.latencies = nil
	return taken
}

// judge waits for the events under way, and fails unless all have arrived, and
// as promised.
func (w *world) judge(ctx context.Context) error {
	w.stop()
	w.published.Wait()
	if w.failed != nil {
		return w.failed
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	promise := ledger.Promise{PublishOrder: true}
	for len(w.ledger.Outstanding(promise)) > 0 && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	if err := w.log.Record(ctx, w.ledger, partitions); err != nil {
		return err
	}
	report := w.ledger.Check(promise)
	fmt.Println("the others:", report)
	if n := len(report.Violations); n > 0 {
		return fmt.Errorf("%d promises to the others were broken", n)
	}
	return nil
}

func (w *world) close() {
	w.stop()
	w.published.Wait()
	for _, d := range w.daemons {
		_ = d.Stop()
	}
	if w.publisher != nil {
		_ = w.publisher.Close()
	}
	if w.log != nil {
		w.log.Close()
	}
	w.Close()
}

// attackersAddress is one that the limits of connects by address tell from that
// of the others. Only Linux has all of 127.0.0.0/8 on loopback.
func attackersAddress() net.IP {
	if runtime.GOOS == "linux" {
		return net.IPv4(127, 0, 0, 2)
	}
	return nil
}
