package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

// patience bounds what must not take long: starting, and becoming ready.
const patience = 90 * time.Second

// handedOver is longer than a router goes on serving partitions that another one
// has taken: a fault must not find two of them at work.
const handedOver = 3 * time.Second

// world is a cluster with its daemons and publishers.
type world struct {
	*cluster.Cluster
	options options
	ledger  *ledger.Ledger
	log     *traffic.Log
	redis   *traffic.Publisher
	streams []*stream
	seats   []*seat // of streams first

	stopPublishing, giveUp context.CancelFunc
	publishing             sync.WaitGroup
}

func newWorld(ctx context.Context, o options, binaries cluster.Binaries) (*world, error) {
	dir := filepath.Join(o.dir, "run")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	c, err := cluster.New(cluster.Config{
		Binaries: binaries, Dir: dir, NATS: 3, Bridges: 2, Routers: 2, Edges: 3,
		Settings: map[string]string{
			"PARTITIONS":      strconv.Itoa(o.partitions),
			"STREAM_REPLICAS": "3",
			"LOG_LEVEL":       o.level,
			"ENABLE_PPROF":    "true",
			// Daemons are brought back to where they were by the measurement.
			"BALANCE_RATE": "0",
		},
	})
	if err != nil {
		return nil, err
	}
	w := &world{Cluster: c, options: o, ledger: ledger.New()}
	if err := w.start(ctx); err != nil {
		report := c.Report(20)
		w.close()
		return nil, fmt.Errorf("%w\n%s", err, report)
	}
	return w, nil
}

func (w *world) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.Start(ctx); err != nil {
		return err
	}
	if w.log, err = traffic.OpenLog(w.NATSURL()); err != nil {
		return err
	}
	w.redis = traffic.NewPublisher(w.ledger, w.Redis.Addr)
	w.populate()
	for _, x := range w.seats {
		if err := x.enter(w.ledger); err != nil {
			return err
		}
	}
	for _, x := range w.seats {
		if err := x.daemon.AwaitSubscribed(ctx); err != nil {
			return err
		}
	}
	return w.publish()
}

// populate makes the streams and the seats; the seats of a stream are on as
// many edges.
func (w *world) populate() {
	add := func(s *stream, number, edge int, id protocol.OrchestratorID) *seat {
		var urls []string
		for i := range w.Edges {
			urls = append(urls, w.Edges[(edge+i)%len(w.Edges)].URL)
		}
		name := fmt.Sprintf("%s#%d", id, number)
		x := newSeat(s, number, traffic.Profile{
			Seat: ledger.Seat(name), Orchestrator: id, Daemon: protocol.DaemonID("daemon_" + name), URLs: urls, Secret: cluster.Secret,
			Subscribes: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		})
		w.seats = append(w.seats, x)
		return x
	}
	for i := range w.options.streams {
		id := protocol.OrchestratorID(fmt.Sprintf("vp_%d", i))
		s := &stream{orchestrator: id, onRedis: i%2 == 0, partition: event.PartitionOf(event.TokenOf(id), w.options.partitions)}
		for j := range w.Edges {
			s.seats = append(s.seats, add(s, j, j, id))
		}
		w.streams = append(w.streams, s)
	}
	for i := range w.options.quiet {
		add(nil, 0, i, protocol.OrchestratorID(fmt.Sprintf("vp_quiet_%d", i)))
	}
}

// publish starts the streams, spread over one interval.
func (w *world) publish() error {
	log, err := publisher.New(w.log.JetStream(), publisher.Config{Partitions: w.options.partitions})
	if err != nil {
		return err
	}
	last, giveUp := context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(last)
	w.stopPublishing, w.giveUp = stop, giveUp
	for i, s := range w.streams {
		w.publishing.Go(func() {
			wait(ctx, w.options.interval*time.Duration(i)/time.Duration(len(w.streams)))
			s.publish(ctx, last, w.options.interval, w.redis, log)
		})
	}
	return nil
}

// repair starts what is down, and brings everybody back to where they belong.
func (w *world) repair(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, p := range w.Processes() {
		if err := p.Start(); err != nil {
			return err
		}
		p.Resume()
	}
	for _, s := range w.NATS {
		if err := s.AwaitReady(ctx); err != nil {
			return err
		}
	}
	if err := w.AwaitReady(ctx); err != nil {
		return err
	}
	for _, x := range w.seats {
		if err := x.goHome(ctx, w.ledger); err != nil {
			return err
		}
	}
	return w.awaitQuiet(ctx, time.Now().Add(handedOver), time.Time{})
}

// finish ends publishing, waits for what is under way, and returns how many
// deliveries are missing.
func (w *world) finish(ctx context.Context) int {
	w.stopPublishing()
	w.publishing.Wait()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for ctx.Err() == nil && w.missing() > 0 {
		wait(ctx, time.Second)
	}
	return w.missing()
}

func (w *world) missing() (n int) {
	for _, s := range w.streams {
		for _, o := range s.since(time.Time{}) {
			for _, received := range o.received {
				if received.IsZero() {
					n++
				}
			}
		}
	}
	return n
}

func (w *world) close() {
	if w.giveUp != nil {
		w.giveUp()
	}
	w.publishing.Wait()
	var leaving sync.WaitGroup
	for _, x := range w.seats {
		if x.daemon != nil {
			leaving.Go(func() { _ = x.daemon.Stop() })
		}
	}
	leaving.Wait()
	if w.redis != nil {
		_ = w.redis.Close()
	}
	if w.log != nil {
		w.log.Close()
	}
	w.Close()
}
