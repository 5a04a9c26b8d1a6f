package trial

import (
	"net"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/probe"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config says how much a trial does, and where. What it shares with a probe is
// there.
type Config struct {
	Probe probe.Config `embed:""`

	Daemons     int          `help:"Daemons of a trial under load: until it is told to finish it publishes, and then tells whether each event has come to each daemon it was for, in order. 0: no trial, one event." default:"0" min:"0" max:"10000" group:"Trial"`
	Rate        int          `help:"Events a second, one half published on Redis, the other half straight into the log." default:"50" min:"1" max:"10000" group:"Trial"`
	NATSURL     settings.URL `name:"nats-url" help:"NATS server that a trial publishes to, as a user that may do what backends may." default:"nats://127.0.0.1:4222" group:"Trial"`
	LogURL      settings.URL `name:"log-url" help:"The same server, as a user that may read the log." default:"nats://127.0.0.1:4222" group:"Trial"`
	Partitions  int          `help:"The gateway's number of partitions." default:"16" min:"1" group:"Trial"`
	ControlAddr string       `help:"Where a trial listens for its steps, on loopback." default:"127.0.0.1:9091" group:"Trial"`

	Step   string `help:"Tell the trial on CONTROL_ADDR that a step of this name begins, and print what came of the one before. Waits until all daemons are connected." group:"Trial"`
	Finish bool   `help:"Tell the trial on CONTROL_ADDR to stop publishing and to judge." group:"Trial"`
}

// Program describes gateway-probe with these settings, for its main function and
// for the page of all settings.
func (c *Config) Program() settings.Program {
	return settings.Program{
		Name:        "gateway-probe",
		Description: "Tries a running gateway end to end: once, or under load for as long as it is upgraded and disturbed.",
		Config:      c,
	}
}

const (
	// perOrchestrator is how many daemons an orchestrator has: each is owed all.
	perOrchestrator = 2
	// recordEvery is how often the log is read. It keeps the 1,000 newest events
	// of an orchestrator, and each must be seen there before it makes room.
	recordEvery = 30 * time.Second
	// settleTimeout is how long the last events may take. Longer than the net
	// under the live path, which an edge casts once a minute.
	settleTimeout = 3 * time.Minute
	// daemonsWait is how long the first connections may take.
	daemonsWait = 2 * time.Minute
)

// Validate reports what a trial cannot begin with.
func (c Config) Validate(report func(setting, problem string)) {
	host, _, err := net.SplitHostPort(c.ControlAddr)
	ip := net.ParseIP(host)
	if err != nil || ip == nil || !ip.IsLoopback() {
		report("CONTROL_ADDR", "expected an address on loopback with a port, since whoever reaches it ends the trial")
	}
	if c.Step != "" && c.Finish {
		report("FINISH", "given together with STEP, expected one of the two")
	}
}

// orchestrators is how many share the daemons.
func (c Config) orchestrators() int {
	return (c.Daemons + perOrchestrator - 1) / perOrchestrator
}
