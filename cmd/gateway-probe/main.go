// Command gateway-probe tries a running gateway end to end: it connects to an
// edge as a daemon, publishes an event on Redis as Neolith does, and ends well
// when the event has come back over the WebSocket. `helm test` runs it. With
// DAEMONS it tries the gateway under load instead, see deploy/verify.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/neolith/daemon-gateway/internal/lab/probe"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func main() {
	var cfg probe.Config
	os.Exit(settings.Main(cfg.Program(), func(ctx context.Context) error { return run(ctx, cfg) }))
}

func run(ctx context.Context, cfg probe.Config) error {
	logger := cfg.Logger(os.Stderr)
	switch {
	case cfg.Step != "" || cfg.Finish:
		answer, err := probe.Tell(ctx, cfg)
		fmt.Print(answer)
		return err
	case cfg.Daemons > 0:
		return probe.UnderLoad(ctx, cfg, os.Stdout, logger)
	default:
		return probe.Once(ctx, cfg, logger)
	}
}
