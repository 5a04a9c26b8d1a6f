// Command lab tries the gateway: it runs one of the scenarios of internal/lab, and
// "lab list" says which there are. The exit code is 1 where the gateway did what it
// must not, and 2 where a run came to nothing.
package main

import (
	"os"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/bench"
	"github.com/neolith/daemon-gateway/internal/lab/chaos"
	"github.com/neolith/daemon-gateway/internal/lab/drill"
	"github.com/neolith/daemon-gateway/internal/lab/hostile"
	"github.com/neolith/daemon-gateway/internal/lab/recovery"
	"github.com/neolith/daemon-gateway/internal/lab/soak"
)

func main() { os.Exit(lab.Main(os.Args[1:], scenarios()...)) }

func scenarios() []lab.Scenario {
	return []lab.Scenario{
		chaos.Scenario(), recovery.Scenario(), drill.Scenario(), soak.Scenario(), hostile.Scenario(), bench.Scenario(),
	}
}
