// Package probe tries a running gateway end to end, and uses nothing but what
// daemons, Neolith and backends use. Once is one event, as an operator sends
// after an installation. UnderLoad is daemons and publishers without a pause,
// while somebody upgrades the gateway, deletes its pods or drains its nodes, and
// judges in the end what came of each event. It is shipped, as a command of gatewayctl,
// and has its daemons, its publishers and its ledger from those of the lab.
package probe

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/redisconn"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Config says which gateway is tried, as whom, and how much.
type Config struct {
	settings.Logging
	EdgeURL         settings.URL    `help:"WebSocket of the edges or of the load balancer in front of them, ws:// or wss:// with path." default:"ws://127.0.0.1:8080/daemon/ws" group:"Probe"`
	DaemonJWTSecret settings.Secret `name:"daemon-jwt-secret" help:"Secret that the probe's access token is signed with, the edges' own." required:"" group:"Probe"`
	Orchestrator    string          `help:"Orchestrator that the probe is a daemon of. Its other daemons see the event if they subscribe to it." default:"gateway-probe" group:"Probe"`
	Timeout         time.Duration   `help:"How long the event may take, from the start of the probe." default:"60s" min:"1s" group:"Probe"`

	// Redis is the same as the bridges' configuration.
	Redis        redisconn.Config `embed:""`
	RedisChannel string           `help:"Channel to publish on, one that the bridges listen to." default:"daemon:events" group:"Redis"`

	Daemons     int          `help:"Daemons of a trial under load: it publishes until it is told to finish, and then says whether each event has come to each daemon it was for, in order. 0: no trial, one event." default:"0" min:"0" max:"10000" group:"Trial"`
	Rate        int          `help:"Events a second, one half published on Redis, the other half straight into the log." default:"50" min:"1" max:"10000" group:"Trial"`
	NATSURL     settings.URL `name:"nats-url" help:"NATS server that a trial publishes to, as a user that may do what backends may." default:"nats://127.0.0.1:4222" group:"Trial"`
	LogURL      settings.URL `name:"log-url" help:"The same server, as a user that may read the log and is answered below _INBOX_backup, such as that of backups." default:"nats://127.0.0.1:4222" group:"Trial"`
	Partitions  int          `help:"The gateway's number of partitions." default:"16" min:"1" group:"Trial"`
	ControlAddr string       `help:"Where a trial listens for its steps, on loopback." default:"127.0.0.1:9091" group:"Trial"`

	Step   string `help:"Tell the trial on CONTROL_ADDR that a step of this name begins, and print what came of the one before. Waits until all daemons are connected." group:"Trial"`
	Finish bool   `help:"Tell the trial on CONTROL_ADDR to stop publishing and to judge." group:"Trial"`
}

// Program describes the probe with these settings, for its command and for the page of
// all settings.
func (c *Config) Program() settings.Program {
	return settings.Program{
		Name:        "gatewayctl probe",
		Description: "Tries a running gateway end to end: once, or under load for as long as it is upgraded and disturbed.",
		Config:      c,
		Example: "DAEMON_JWT_SECRET_FILE=/run/secrets/jwt gatewayctl probe \\\n" +
			"  --edge-url=ws://edge:8080/daemon/ws --redis-url=redis://redis:6379",
	}
}

// Run does what the settings say, and writes to out what a trial answers.
func Run(ctx context.Context, cfg Config, out io.Writer, logger *slog.Logger) error {
	switch {
	case cfg.Step != "" || cfg.Finish:
		answer, err := Tell(ctx, cfg)
		fmt.Fprint(out, answer)
		return err
	case cfg.Daemons > 0:
		return UnderLoad(ctx, cfg, out, logger)
	default:
		return Once(ctx, cfg, logger)
	}
}

// Validate reports what the gateway or Redis would not take, and what a trial
// cannot begin with.
func (c Config) Validate(report func(setting, problem string)) {
	if protocol.OrchestratorID(c.Orchestrator).Validate() != nil {
		report("ORCHESTRATOR", "expected an orchestrator's id")
	}
	if u, err := url.Parse(string(c.EdgeURL)); err != nil || u.Hostname() == "" || u.Scheme != "ws" && u.Scheme != "wss" {
		report("EDGE_URL", "expected ws://host[:port]/path or wss://…")
	}
	c.validateTrial(report)
	if c.RedisChannel == "" {
		report("REDIS_CHANNEL", "expected the channel to publish on")
	}
	if c.Step != "" && c.Finish {
		report("FINISH", "given together with STEP, expected one of the two")
	}
}

// validateTrial reports where a trial can neither publish nor read, nor be told its
// steps.
func (c Config) validateTrial(report func(setting, problem string)) {
	for _, u := range []struct {
		setting string
		url     settings.URL
	}{{"NATS_URL", c.NATSURL}, {"LOG_URL", c.LogURL}} {
		if problem := natsconn.CheckURLs(u.url); problem != "" {
			report(u.setting, problem)
		}
	}
	host, _, err := net.SplitHostPort(c.ControlAddr)
	ip := net.ParseIP(host)
	if err != nil || ip == nil || !ip.IsLoopback() {
		report("CONTROL_ADDR", "expected an address on loopback with a port, since whoever reaches it ends the trial")
	}
}
