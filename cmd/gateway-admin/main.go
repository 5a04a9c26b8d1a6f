// Command gateway-admin makes the streams and buckets of the gateway on NATS, and
// changes them to what is configured.
package main

import (
	"context"
	"os"

	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/upkeep"
)

func main() {
	var cfg upkeep.Config
	os.Exit(settings.Main(cfg.Program(), func(ctx context.Context) error {
		return upkeep.Run(ctx, cfg, cfg.Logger(os.Stderr))
	}))
}
