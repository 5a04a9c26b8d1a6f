// Command generate writes docs/configuration.md from the settings of all
// programs, so that the page cannot say anything but what they say.
package main

import (
	"fmt"
	"os"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/bridge"
	"github.com/neolith/daemon-gateway/internal/devcluster"
	"github.com/neolith/daemon-gateway/internal/edge"
	"github.com/neolith/daemon-gateway/internal/lab/probe"
	"github.com/neolith/daemon-gateway/internal/router"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/upkeep"
)

func main() {
	err := settings.Markdown(os.Stdout,
		new(edge.Config).Program(),
		new(router.Config).Program(),
		new(bridge.Config).Program(),
		new(upkeep.Config).Program(),
		new(probe.Config).Program(),
		new(backup.Config).Program(),
		new(backup.RestoreConfig).Program(),
		new(devcluster.Config).Program(),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}
