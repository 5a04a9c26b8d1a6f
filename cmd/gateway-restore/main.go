// Command gateway-restore puts the gateway's streams and buckets back into a
// JetStream that has lost them, from a backup that gateway-backup took.
package main

import (
	"context"
	"os"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func main() {
	var cfg backup.RestoreConfig
	os.Exit(settings.Main(cfg.Program(), func(ctx context.Context) error {
		return backup.RunRestore(ctx, cfg, cfg.Logger(os.Stderr))
	}))
}
