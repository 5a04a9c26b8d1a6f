// Command router is a node of the middle tier: it moves events from the log to
// the edges that hold their orchestrators.
package main

import (
	"context"
	"os"

	"github.com/neolith/daemon-gateway/internal/headroom"
	"github.com/neolith/daemon-gateway/internal/router"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func main() {
	var cfg router.Config
	os.Exit(settings.Main(cfg.Program(), headroom.Kept(func(ctx context.Context) error {
		r, err := router.New(cfg, cfg.Logger(os.Stderr))
		if err != nil {
			return err
		}
		return r.Run(ctx)
	})))
}
