// Command publisher-bridge stores in the event log what Neolith publishes on
// Redis.
package main

import (
	"context"
	"os"

	"github.com/neolith/daemon-gateway/internal/bridge"
	"github.com/neolith/daemon-gateway/internal/headroom"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func main() {
	var cfg bridge.Config
	os.Exit(settings.Main(cfg.Program(), headroom.Kept(func(ctx context.Context) error {
		app, err := bridge.New(cfg, cfg.Logger(os.Stderr))
		if err != nil {
			return err
		}
		return app.Run(ctx)
	})))
}
