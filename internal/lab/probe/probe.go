// Package probe tries a running gateway end to end, once, as an operator does
// after an installation: a daemon connects through the load balancer, an event
// is published on Redis as Neolith does, and the daemon must be sent it. It uses
// nothing but what daemons and Neolith use.
package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/redisconn"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Config says which gateway is tried, and as whom.
type Config struct {
	settings.Logging
	EdgeURL         settings.URL    `help:"WebSocket of the edges or of the load balancer before them, ws:// or wss:// with path." default:"ws://127.0.0.1:8080/daemon/ws" group:"Probe"`
	DaemonJWTSecret settings.Secret `name:"daemon-jwt-secret" help:"Secret that the probe's access token is signed with, the edges' own." required:"" group:"Probe"`
	Orchestrator    string          `help:"Orchestrator that the probe is a daemon of. Its other daemons see the event if they subscribe to it." default:"gateway-probe" group:"Probe"`
	Timeout         time.Duration   `help:"How long the event may take, from the start of the probe." default:"60s" min:"1s" group:"Probe"`

	// Redis is the same as the bridges' configuration.
	Redis        redisconn.Config `embed:""`
	RedisChannel string           `help:"Channel to publish on, one that the bridges listen to." default:"daemon:events" group:"Redis"`
}

const (
	// EventType is the type of the published event.
	EventType protocol.EventType = "gateway.probe"
	// publishAgain is when an event that has not come is published once more,
	// under the same id: Redis keeps nothing for a bridge that starts.
	publishAgain = 2 * time.Second
)

// Validate reports what the gateway or Redis would not take.
func (c Config) Validate(report func(setting, problem string)) {
	if protocol.OrchestratorID(c.Orchestrator).Validate() != nil {
		report("ORCHESTRATOR", "expected an orchestrator's id")
	}
	if c.RedisChannel == "" {
		report("REDIS_CHANNEL", "expected the channel to publish on")
	}
}

// Run connects, publishes one event and waits until it has been delivered. The
// error says how far that went.
func Run(ctx context.Context, cfg Config, logger *slog.Logger) error {
	expired := fmt.Errorf("not delivered within %v", cfg.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, expired)
	defer cancel()
	redis, err := redisconn.NewClient(cfg.Redis)
	if err != nil {
		return err
	}
	defer func() { _ = redis.Close() }()
	p := &probe{
		cfg: cfg, redis: redis, logger: logger, event: uuid.NewString(),
		subscribed: make(chan struct{}, 1), delivered: make(chan struct{}, 1),
	}
	daemon, err := p.daemon()
	if err != nil {
		return err
	}
	refused := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { refused <- daemon.Run(running) }()
	err = p.converse(ctx, refused)
	stop()
	if refusal := <-refused; refusal != nil {
		err = fmt.Errorf("the edge refuses the probe: %w", refusal)
	}
	return err
}

// probe is one try.
type probe struct {
	cfg    Config
	redis  redis.UniversalClient
	logger *slog.Logger
	event  string // id of the event

	subscribed, delivered chan struct{} // each holds one
}

func (p *probe) daemon() (*client.Client, error) {
	orchestrator, daemon := protocol.OrchestratorID(p.cfg.Orchestrator), protocol.DaemonID("gateway-probe")
	return client.New(client.Config{
		URLs: []string{string(p.cfg.EdgeURL)}, OrchestratorID: orchestrator, DaemonID: daemon,
		Token: func(context.Context) (string, error) {
			return auth.Mint(p.cfg.DaemonJWTSecret, auth.Grant{Orchestrator: orchestrator, Daemon: daemon, ExpiresAt: time.Now().Add(p.cfg.Timeout + time.Minute)})
		},
		Subscriptions: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.Pattern(EventType)}}},
		Handler: func(_ context.Context, e protocol.Event) error {
			if e.EventID == p.event {
				tell(p.delivered)
			}
			return nil
		},
		OnState: p.stateChanged,
		Backoff: client.Backoff{Min: 100 * time.Millisecond, Max: time.Second},
	})
}

func (p *probe) stateChanged(change client.StateChange) {
	switch change.State {
	case client.StateSubscribed:
		tell(p.subscribed)
	case client.StateDisconnected:
		p.logger.Warn("disconnected", "code", int(change.Close), "reason", change.Reason, "error", change.Err)
	}
}

// tell leaves word in a channel that holds one.
func tell(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// converse publishes once the daemon is subscribed, and waits for the event.
// refused is put back what it gave.
func (p *probe) converse(ctx context.Context, refused chan error) error {
	if err := await(ctx, p.subscribed, refused); err != nil {
		return fmt.Errorf("connect to the edge and subscribe: %w", err)
	}
	p.logger.Info("connected and subscribed")
	began := time.Now()
	for {
		if err := p.publish(ctx); err != nil {
			return err
		}
		patience, cancel := context.WithTimeout(ctx, publishAgain)
		err := await(patience, p.delivered, refused)
		cancel()
		switch {
		case err == nil:
			p.logger.Info("delivered", "event", p.event, "seconds", time.Since(began).Seconds())
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("published, and heard by Redis, but the daemon was not sent it: %w", context.Cause(ctx))
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		}
	}
}

func await(ctx context.Context, word chan struct{}, refused chan error) error {
	select {
	case <-word:
		return nil
	case err := <-refused:
		refused <- err
		return errors.New("the daemon has ended")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *probe) publish(ctx context.Context) error {
	e := event.Event{
		ID: p.event, Type: EventType, OrchestratorID: protocol.OrchestratorID(p.cfg.Orchestrator),
		Payload: []byte(`{}`), Timestamp: time.Now().UTC().Format(time.RFC3339Nano), RequiresAck: true,
	}
	body, err := e.MarshalJSON()
	if err != nil {
		return fmt.Errorf("write the event: %w", err)
	}
	heard, err := p.redis.Publish(ctx, p.cfg.RedisChannel, body).Result()
	if err != nil {
		return fmt.Errorf("publish on Redis: %w", err)
	}
	p.logger.Info("published", "channel", p.cfg.RedisChannel, "subscribers", heard)
	return nil
}
