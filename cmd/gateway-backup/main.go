// Command gateway-backup copies the gateway's streams and buckets out of
// JetStream into files, while the gateway runs. gateway-restore puts them back.
package main

import (
	"context"
	"os"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func main() {
	var cfg backup.Config
	os.Exit(settings.Main(cfg.Program(), func(ctx context.Context) error {
		return backup.Run(ctx, cfg, cfg.Logger(os.Stderr))
	}))
}
