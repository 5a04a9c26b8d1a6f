// Command edge is a node that daemons connect to.
package main

import (
	"context"
	"os"

	"github.com/neolith/daemon-gateway/internal/edge"
	"github.com/neolith/daemon-gateway/internal/headroom"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func main() {
	var cfg edge.Config
	os.Exit(settings.Main(cfg.Program(), headroom.Kept(func(ctx context.Context) error {
		e, err := edge.New(cfg, cfg.Logger(os.Stderr))
		if err != nil {
			return err
		}
		return e.Run(ctx)
	})))
}
