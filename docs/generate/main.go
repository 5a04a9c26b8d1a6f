// Command generate writes docs/configuration.md from the settings of all
// programs, so that the page cannot say anything but what they say, and with the
// argument metrics docs/metrics.md from what they register. It is run in the
// repository's root.
package main

import (
	"fmt"
	"os"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/bridge"
	"github.com/neolith/daemon-gateway/internal/devcluster"
	"github.com/neolith/daemon-gateway/internal/edge"
	"github.com/neolith/daemon-gateway/internal/probe"
	"github.com/neolith/daemon-gateway/internal/router"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/upkeep"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 1 && args[0] == "metrics" {
		return metricsPage(os.Stdout, ".")
	}
	return settings.Markdown(os.Stdout,
		new(edge.Config).Program(),
		new(router.Config).Program(),
		new(bridge.Config).Program(),
		new(upkeep.Config).Program(),
		new(probe.Config).Program(),
		new(backup.Config).Program(),
		new(backup.RestoreConfig).Program(),
		new(devcluster.Config).Program(),
	)
}
