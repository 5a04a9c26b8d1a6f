package probe

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

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/internal/redisconn"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

// ErrFailed: the gateway has not kept what it promises. What UnderLoad has
// written says how.
var ErrFailed = errors.New("the gateway has not passed the trial")

const (
	loadType protocol.EventType = "gateway.trial"
	// perOrchestrator is how many daemons an orchestrator has: each is owed all.
	perOrchestrator = 2
	// recordEvery is how often the log is read. It keeps the 1,000 newest events
	// of an orchestrator, and each must be seen there before it makes room.
	recordEvery = 30 * time.Second
	// settleTimeout is how long the last events may take. Longer than the net
	// under the live path, which an edge casts once a minute.
	settleTimeout = 3 * time.Minute
	// logInbox is under what the user of backups is answered, who may read the log.
	logInbox = "_INBOX_backup"
	// daemonsWait is how long the first connections may take.
	daemonsWait = 2 * time.Minute
)

// trial is one run under load. It is told where a step begins, so that it can
// say what each cost.
type trial struct {
	cfg     Config
	logger  *slog.Logger
	ledger  *ledger.Ledger
	crowd   *traffic.Crowd
	feed    *traffic.Feed
	log     *traffic.Log
	account *account
	finish  context.CancelFunc // stops publishing
}

// UnderLoad runs until a Finish is told, or ctx ends, and writes the verdict to out.
func UnderLoad(ctx context.Context, cfg Config, out io.Writer, logger *slog.Logger) error {
	listen, err := net.Listen("tcp", cfg.ControlAddr)
	if err != nil {
		return fmt.Errorf("listen for steps: %w", err)
	}
	return underLoad(ctx, cfg, listen, out, logger)
}

func underLoad(ctx context.Context, cfg Config, listen net.Listener, out io.Writer, logger *slog.Logger) error {
	redis, err := redisconn.NewClient(cfg.Redis)
	if err != nil {
		return err
	}
	defer func() { _ = redis.Close() }()
	nc, err := nats.Connect(string(cfg.NATSURL), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true),
		nats.CustomInboxPrefix(publisher.InboxPrefix))
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	t := &trial{cfg: cfg, logger: logger, ledger: ledger.New(), account: newAccount(time.Now)}
	if t.log, err = traffic.OpenLog(string(cfg.LogURL), nats.CustomInboxPrefix(logInbox)); err != nil {
		return err
	}
	defer t.log.Close()
	t.crowd = traffic.NewCrowd(t.ledger, []string{string(cfg.EdgeURL)}, cfg.DaemonJWTSecret)
	t.feed, err = traffic.NewFeed(t.ledger, traffic.Entrance{Redis: redis, Channel: cfg.RedisChannel, JetStream: js, Partitions: cfg.Partitions})
	if err != nil {
		return err
	}
	return t.conduct(ctx, listen, out)
}

// conduct lets daemons and publishers run until it is told to finish, and judges.
func (t *trial) conduct(ctx context.Context, listen net.Listener, out io.Writer) error {
	running, finish := context.WithCancel(ctx)
	t.finish = finish
	defer finish()
	defer t.crowd.Close()
	if err := t.enter(); err != nil {
		return err
	}
	control := &http.Server{Handler: t.handler(), ReadHeaderTimeout: 10 * time.Second}
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = control.Serve(listen) })
	tasks.Go(func() { t.publish(running) })
	tasks.Go(func() { t.recordSometimes(running) })
	<-running.Done()
	err := t.settle(ctx)
	_ = control.Close()
	tasks.Wait()
	if err != nil {
		return err
	}
	return t.judge(out, t.feed.Since(time.Time{}))
}

func (t *trial) enter() error {
	for i := range t.cfg.Daemons {
		seat := t.crowd.Add(t.orchestrator(i/perOrchestrator), traffic.Habit{Name: traffic.Steady},
			protocol.Subscribe{EventTypes: []protocol.Pattern{protocol.Pattern(loadType)}})
		// That of a daemon by default: a trial shows what daemons will see.
		seat.Profile.Backoff = &client.Backoff{}
		connected := false
		seat.Profile.OnState = told(t.logger, seat.Profile.Daemon, func() {
			if connected {
				t.account.reconnected()
			}
			connected = true
		})
		if err := seat.Enter(); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) orchestrator(number int) protocol.OrchestratorID {
	return protocol.OrchestratorID(fmt.Sprintf("%s-%d", t.cfg.Orchestrator, number))
}

// publish begins when all daemons are connected, so that each is owed every
// event of its orchestrator, and goes on until ctx ends and what has begun is
// accepted, or waited for long enough.
func (t *trial) publish(ctx context.Context) {
	if t.crowd.Enter(ctx, t.crowd.Seats()...) != nil {
		return
	}
	orchestrators := (t.cfg.Daemons + perOrchestrator - 1) / perOrchestrator
	every := time.Second * time.Duration(orchestrators) / time.Duration(t.cfg.Rate)
	for i := range orchestrators {
		t.feed.Start(traffic.Author{Way: traffic.Way(i % 2), Every: every, Next: func(time.Time) event.Event {
			id := uuid.NewString()
			return event.Event{
				ID: id, Type: loadType, OrchestratorID: t.orchestrator(i), RequiresAck: true,
				Payload: fmt.Appendf(nil, `{"id": %q}`, id), Timestamp: time.Now().UTC().Format(time.RFC3339Nano),
			}
		}})
	}
	<-ctx.Done()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	_ = t.feed.Finish(ending) // what was not accepted is counted
}
