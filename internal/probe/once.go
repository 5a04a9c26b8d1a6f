package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/internal/outage"
	"github.com/neolith/daemon-gateway/internal/redisconn"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// EventType is the type of the event that Once publishes.
	EventType protocol.EventType = "gateway.probe"
	// publishAgain is when an event that has not come is published once more,
	// under the same id: Redis keeps nothing for a bridge that starts.
	publishAgain = 2 * time.Second
)

// Once connects, publishes one event and waits until it has been delivered. The
// error says how far that went.
func Once(ctx context.Context, cfg Config, logger *slog.Logger) error {
	expired := fmt.Errorf("not delivered within %v", cfg.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, expired)
	defer cancel()
	redis, err := redisconn.NewClient(cfg.Redis)
	if err != nil {
		return err
	}
	defer func() { _ = redis.Close() }()
	l := ledger.New()
	feed, err := traffic.NewFeed(l, traffic.Entrance{Redis: redis, Channel: cfg.RedisChannel})
	if err != nil {
		return err
	}
	feed.Timeout = cfg.Timeout // nothing but the whole is limited
	e := event.Event{
		ID: uuid.NewString(), Type: EventType, OrchestratorID: protocol.OrchestratorID(cfg.Orchestrator),
		Payload: []byte(`{}`), Timestamp: time.Now().UTC().Format(time.RFC3339Nano), RequiresAck: true,
	}
	crowd := traffic.NewCrowd(l, []string{string(cfg.EdgeURL)}, cfg.DaemonJWTSecret)
	defer crowd.Close()
	delivered := make(chan struct{}, 1)
	seat := crowd.Add(e.OrchestratorID, traffic.Habit{Handle: func(_ context.Context, s *traffic.Seat, got protocol.Event) error {
		if got.EventID == e.ID {
			// The daemon leaves then, maybe before this has returned.
			s.Daemon().Ack(got.EventID)
			delivered <- struct{}{} // the client hands it over once
		}
		return nil
	}}, protocol.Subscribe{EventTypes: []protocol.Pattern{protocol.Pattern(EventType)}})
	seat.Profile.Daemon = "gateway-probe"
	seat.Profile.OnState = told(logger, "gateway-probe", func() {})
	if err := crowd.Enter(ctx, seat); err != nil {
		return fmt.Errorf("connect to the edge and subscribe: %w", err)
	}
	logger.Info("connected and subscribed")
	for began := time.Now(); ; {
		if err := feed.Publish(ctx, traffic.OnRedis, e); err != nil && !errors.Is(err, traffic.ErrUnheard) {
			return err
		}
		logger.Info("published", "channel", cfg.RedisChannel, "subscribers", feed.Since(began)[0].Bridges)
		select {
		case <-delivered:
			logger.Info("delivered", "event", e.ID, "seconds", time.Since(began).Seconds())
			return nil
		case <-seat.Daemon().Ended():
			return fmt.Errorf("the daemon has ended: %w", seat.Daemon().Stop())
		case <-time.After(publishAgain):
		case <-ctx.Done():
			return fmt.Errorf("published, and heard by Redis, but the daemon was not sent it: %w", context.Cause(ctx))
		}
	}
}

// told logs how a daemon fares, once at each change, and calls subscribed each time that
// it is. What it returns is called by one goroutine at a time.
func told(logger *slog.Logger, daemon protocol.DaemonID, subscribed func()) func(client.StateChange) {
	before := "" // why it is not connected; empty: it is
	return func(s client.StateChange) {
		switch s.State {
		case client.StateDisconnected:
			level, why := slog.LevelWarn, ending(s)
			if why == before {
				level = slog.LevelDebug
			}
			before = why
			logger.Log(context.Background(), level, "disconnected",
				"daemon", daemon, "url", s.URL, "code", int(s.Close), "reason", s.Reason, "delay", s.Delay, "error", s.Err)
		case client.StateSubscribed:
			before = ""
			logger.Info("subscribed", "daemon", daemon)
			subscribed()
		}
	}
}

// ending says how a connection ended, in words that do not differ with each try.
func ending(s client.StateChange) string {
	why := fmt.Sprint(s.URL, int(s.Close), s.Reason)
	if s.Err != nil {
		why += outage.Reason(s.Err)
	}
	return why
}
