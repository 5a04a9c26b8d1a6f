// Package upkeep makes the streams and buckets of a gateway, and changes them to
// what is configured. It is gateway-admin, which runs as a NATS user of its own, so
// that no node's user needs that right; what they consist of, package eventlog
// knows.
package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config is everything that gateway-admin is told by its operator.
type Config struct {
	settings.Logging
	NATS           natsconn.Config `embed:""`
	Log            eventlog.Config `embed:""`
	KeepUnresolved bool            `group:"Event log" help:"Also make the stream of events that wait for their addressee, which bridges with DATABASE_URL need. NATS reserves LOG_MAX_BYTES for it, or less where that does not fit."`
	Timeout        time.Duration   `default:"5m" min:"1s" group:"Event log" help:"How long all of it may take, waiting for NATS included."`
}

// Program describes gateway-admin with these settings, for its main function and
// for the page of all settings.
func (c *Config) Program() settings.Program {
	return settings.Program{
		Name:        "gateway-admin",
		Description: "Makes the gateway's streams and buckets, and changes them to these settings, which must be those of the nodes. Nothing that is stored is lost, except what new limits do not allow. It ends when all is done, and may be run again at any time.",
		Config:      c,
		Example:     "NATS_URL=nats://admin:password@nats:4222 NATS_INBOX_PREFIX=_INBOX_admin STREAM_REPLICAS=3 gateway-admin",
	}
}

// Run makes and changes what there is to be, and returns when all is as it is
// configured.
func Run(ctx context.Context, cfg Config, logger *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	reg := prometheus.NewRegistry()
	conn, err := natsconn.Connect(ctx, cfg.NATS, "gateway-admin", logger, reg, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	log, err := eventlog.Open(ctx, conn.JS, cfg.Log, logger, reg, eventlog.Manage())
	if err == nil && cfg.KeepUnresolved {
		_, err = log.OpenUnresolved(ctx, func(string) {})
	}
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			_, detail := conn.Check() // may say what NATS has refused
			return fmt.Errorf("not done within %s (TIMEOUT), %s: %w", cfg.Timeout, detail, err)
		}
		return err
	}
	logger.Info("streams and buckets are as they are configured", "partitions", cfg.Log.Partitions,
		"partition_bytes", log.Config().LogMaxBytes.String(), "replicas", cfg.Log.StreamReplicas)
	return nil
}
