// Package trial tries a running gateway under load while somebody upgrades it,
// deletes its pods or drains its nodes: daemons stay connected, events are
// published on Redis and straight into the log without a pause, and a ledger
// judges in the end whether every event that was accepted has come to every
// daemon that it was for, once it was, and in order. It runs for as long as it
// is not told to finish, and is told where a step begins, so that it can say
// what each cost. deploy/verify runs it.
package trial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/redisconn"
	"github.com/neolith/daemon-gateway/pkg/protocol"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

// ErrFailed: the gateway has not kept what it promises. What Run has written
// says how.
var ErrFailed = errors.New("the gateway has not passed the trial")

// trial is one run.
type trial struct {
	cfg     Config
	logger  *slog.Logger
	ledger  *ledger.Ledger
	account *account
	listen  net.Listener

	redis   redis.UniversalClient
	backend *publisher.Publisher
	log     *traffic.Log
	daemons []*traffic.Daemon

	finish context.CancelFunc // stops publishing
	ended  chan struct{}      // closed when nothing is waited for any more

	mu       sync.Mutex
	findings []string
}

// Run runs until a Finish is told, or ctx ends, and writes the verdict to out.
func Run(ctx context.Context, cfg Config, out io.Writer, logger *slog.Logger) error {
	listen, err := net.Listen("tcp", cfg.ControlAddr)
	if err != nil {
		return fmt.Errorf("listen for steps: %w", err)
	}
	return run(ctx, cfg, listen, out, logger)
}

func run(ctx context.Context, cfg Config, listen net.Listener, out io.Writer, logger *slog.Logger) error {
	t := &trial{
		cfg: cfg, logger: logger, ledger: ledger.New(), account: newAccount(time.Now), listen: listen, ended: make(chan struct{}),
	}
	var teardown lifecycle.Stack
	err := t.connect(&teardown)
	if err == nil {
		err = t.conduct(ctx, out)
	}
	return errors.Join(err, teardown.Stop(context.Background()))
}

// conduct lets daemons and publishers run until it is told to finish, and judges.
func (t *trial) conduct(ctx context.Context, out io.Writer) error {
	publishing, finish := context.WithCancel(ctx)
	t.finish = finish
	defer finish()
	defer t.stopDaemons()
	if err := t.startDaemons(); err != nil {
		return err
	}
	control := &http.Server{Handler: t.handler(), ReadHeaderTimeout: time.Second}
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = control.Serve(t.listen) })
	tasks.Go(func() { t.publish(publishing) })
	tasks.Go(func() { t.recordSometimes(publishing) })
	<-publishing.Done()
	err := t.settle(ctx)
	close(t.ended)
	_ = control.Close()
	tasks.Wait()
	if err != nil {
		return err
	}
	return t.judge(out)
}

// publish begins when all daemons are connected, so that each is owed every
// event of its orchestrator.
func (t *trial) publish(ctx context.Context) {
	for _, d := range t.daemons {
		if d.AwaitSubscribed(ctx) != nil {
			return
		}
	}
	var authors sync.WaitGroup
	for i := range t.cfg.orchestrators() {
		authors.Go(func() { t.write(ctx, i) })
	}
	authors.Wait()
}

// find notes what is wrong beyond what the ledger finds.
func (t *trial) find(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.findings = append(t.findings, fmt.Sprintf(format, args...))
}

// connect makes all that a trial uses, and registers its end.
func (t *trial) connect(teardown *lifecycle.Stack) error {
	var err error
	if t.redis, err = redisconn.NewClient(t.cfg.Probe.Redis); err != nil {
		return err
	}
	teardown.Push("redis", func(context.Context) error { return t.redis.Close() })
	nc, err := nats.Connect(string(t.cfg.NATSURL), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true))
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	teardown.Push("nats", func(context.Context) error { nc.Close(); return nil })
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if t.backend, err = publisher.New(js, publisher.Config{Partitions: t.cfg.Partitions}); err != nil {
		return err
	}
	if t.log, err = traffic.OpenLog(string(t.cfg.LogURL)); err != nil {
		return err
	}
	teardown.Push("log", func(context.Context) error { t.log.Close(); return nil })
	return nil
}

func (t *trial) orchestrator(number int) protocol.OrchestratorID {
	return protocol.OrchestratorID(fmt.Sprintf("%s-%d", t.cfg.Probe.Orchestrator, number))
}
