// Command configdoc writes docs/configuration.md from the settings of all
// programs, so that the page cannot say anything else than they do.
package main

import (
	"fmt"
	"os"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/bridge"
	"github.com/neolith/daemon-gateway/internal/devcluster"
	"github.com/neolith/daemon-gateway/internal/edge"
	"github.com/neolith/daemon-gateway/internal/lab/trial"
	"github.com/neolith/daemon-gateway/internal/router"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func main() {
	err := settings.Markdown(os.Stdout,
		settings.Program{Name: "edge", Description: "Holds the daemons' WebSockets and delivers their events.", Config: &edge.Config{}},
		settings.Program{Name: "router", Description: "Moves events from the log to the edges that hold their orchestrators.", Config: &router.Config{}},
		settings.Program{Name: "publisher-bridge", Description: "Stores in the event log what Neolith publishes on Redis.", Config: &bridge.Config{}},
		settings.Program{Name: "gateway-probe", Description: trial.Description, Config: &trial.Config{}},
		settings.Program{Name: "gateway-backup", Description: "Takes a backup of the gateway's streams, while it runs.", Config: &backup.Config{}},
		settings.Program{Name: "gateway-restore", Description: "Restores a backup of the gateway's streams, while no node of it runs.", Config: &backup.RestoreConfig{}},
		settings.Program{Name: "devcluster", Description: "Runs a whole cluster in one process, for trying it out.", Config: &devcluster.Config{}},
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "configdoc:", err)
		os.Exit(1)
	}
}
