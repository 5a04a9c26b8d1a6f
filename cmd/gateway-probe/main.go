// Command gateway-probe tries a running gateway end to end: it connects to an
// edge as a daemon, publishes an event on Redis as Neolith does, and ends well
// when the event has come back over the WebSocket. `helm test` runs it.
package main

import (
	"context"
	"os"

	"github.com/neolith/daemon-gateway/internal/probe"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func main() {
	var cfg probe.Config
	os.Exit(settings.Main("gateway-probe", "Tries a running gateway end to end, once.", &cfg, func(ctx context.Context) error {
		return probe.Run(ctx, cfg, cfg.Logger(os.Stderr))
	}))
}
