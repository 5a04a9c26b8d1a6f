package router

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/neolith/presence"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing/otlp"
)

// Config is the whole configuration of a router.
type Config struct {
	settings.Common
	NATS            natsconn.Config `embed:""`
	Log             eventlog.Config `embed:""`
	Upkeep          eventlog.Upkeep `embed:""`
	Ring            ring.Config     `embed:""`
	Admin           admin.Config    `embed:""`
	Postgres        postgres.Config `embed:""`
	Presence        presence.Config `embed:""`
	Trace           trace.Config    `embed:""`
	Spans           otlp.Config     `embed:""`
	FetchBatch      int             `default:"256" min:"1" max:"10000" group:"Router" help:"Events of a partition that are held between the log and their batches; more costs memory, fewer throughput."`
	ForwardTimeout  time.Duration   `default:"2s" min:"50ms" group:"Router" help:"How long an edge may take to confirm a batch; then it is sent once more, and nobody waits for that edge any longer."`
	ForwardInflight int             `default:"16" min:"1" max:"1024" group:"Router" help:"Unconfirmed batches that an edge may have from one partition, each up to 512 KiB. Further events for it wait for the next batch; of those that do not fit there it is only told that they exist, so that no other edge waits."`
}

// Program describes router with these settings, for its main function and for
// the page of all settings.
func (c *Config) Program() settings.Program {
	return settings.Program{
		Name:        "router",
		Description: "Moves events from the log to the edges that hold their orchestrators.",
		Config:      c,
		Example:     "GOSSIP_KEYS_FILE=/run/secrets/gossip NATS_URL=nats://nats:4222 GOSSIP_JOIN=edge-0:7946,edge-1:7946 router",
	}
}

// features are what is switched on.
func (c *Config) features() (on settings.Features) {
	on.Add("PostgreSQL", c.Postgres.Enabled())
	on.Add("encrypted gossip", len(c.Ring.GossipKeys) > 0)
	on.Add("stream management", c.Upkeep.ManageStreams)
	on.Add("tracing", c.Trace.TraceSample > 0)
	on.Add("OpenTelemetry", c.Spans.Enabled())
	on.Add("profiles", c.Admin.EnablePprof)
	return on
}

// timing holds the intervals that nobody needs to configure.
type timing struct {
	tick       time.Duration // timeouts and retries are looked at
	checkpoint time.Duration // checkpoints are saved
	unchanged  time.Duration // and saved even if they did not change
	watchdog   time.Duration // positions are compared with the log
	standstill time.Duration // a consumer may yield nothing though something is due; longer than it takes to make one
	// rollback is how long a partition's leader may be behind what was seen.
	rollback  time.Duration
	placement time.Duration // placement is looked at without a cause
	// handover is for how long a partition is still served after another router
	// should have it: longer than the news takes, and than it takes to start.
	handover time.Duration
	// isolated is after how long without NATS this router is no target.
	isolated time.Duration
	sentinel time.Duration // the partitions' sentinels are renewed
	retry    time.Duration // first retry of what the log refused; doubles
}

func defaultTiming() timing {
	return timing{
		tick:       100 * time.Millisecond,
		checkpoint: time.Second,
		unchanged:  30 * time.Second,
		watchdog:   3 * time.Second,
		standstill: 6 * time.Second,
		rollback:   5 * time.Second,
		placement:  time.Second,
		handover:   1500 * time.Millisecond,
		isolated:   3 * time.Second,
		sentinel:   24 * time.Hour,
		retry:      250 * time.Millisecond,
	}
}

// longestRetry is short because a partition without a run is not delivered.
const longestRetry = time.Second
