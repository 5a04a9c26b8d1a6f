// Command devcluster runs a whole cluster in one process, for trying it out.
package main

import (
	"context"
	"os"

	"github.com/neolith/daemon-gateway/internal/devcluster"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func main() {
	cfg := devcluster.Config{}
	os.Exit(settings.Main(cfg.Program(), func(ctx context.Context) error {
		c, err := devcluster.New(cfg, os.Stdout, cfg.Logging().Logger(os.Stderr))
		if err != nil {
			return err
		}
		return c.Run(ctx)
	}))
}
