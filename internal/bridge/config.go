package bridge

import (
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/bridge/intake"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/redisconn"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing/otlp"
)

// Config is everything that an operator may set on a bridge.
type Config struct {
	settings.Common
	Admin  admin.Config    `embed:""`
	NATS   natsconn.Config `embed:""`
	Log    eventlog.Config `embed:""`
	Upkeep eventlog.Upkeep `embed:""`
	Redis  RedisConfig     `embed:""`
	Intake intake.Config   `embed:""`

	Trace    trace.Config    `embed:""`
	Spans    otlp.Config     `embed:""`
	Postgres postgres.Config `embed:""`
	Identity identity.Config `embed:""`

	RevocationLifetime time.Duration `help:"How long a token stays refused once it has left Neolith's set daemon:tokens:revoked: at least as long as tokens live." default:"24h" min:"1m" max:"720h" group:"Redis"`

	PublishBuffer int `help:"Events held while NATS is away (at most 256 MiB together); then the oldest are dropped, counted and logged. About 1 KB of memory each." default:"100000" min:"1" max:"10000000" group:"Bridge"`
}

// Program describes publisher-bridge with these settings, for its main function and for
// the page of all settings.
func (c *Config) Program() settings.Program {
	return settings.Program{
		Name:        "publisher-bridge",
		Description: "Stores in the event log what Neolith publishes on Redis.",
		Config:      c,
		Example:     "NATS_URL=nats://nats:4222 REDIS_URL=redis://:password@redis:6379 publisher-bridge",
	}
}

// features are what is switched on.
func (c *Config) features() (on settings.Features) {
	on.Add("events over HTTP", c.Intake.Enabled())
	on.Add("Neolith's lists", c.Redis.RedisDrainLists)
	on.Add("PostgreSQL", c.Postgres.Enabled())
	on.Add("stream management", c.Upkeep.ManageStreams)
	on.Add("tracing", c.Trace.TraceSample > 0)
	on.Add("OpenTelemetry", c.Spans.Enabled())
	on.Add("profiles", c.Admin.EnablePprof)
	return on
}

// intakeAddr is where events are taken over HTTP; "" if they are not.
func (c *Config) intakeAddr() string {
	if !c.Intake.Enabled() {
		return ""
	}
	return c.Intake.HTTPAddr
}

// RedisConfig says which Redis is heard, and what on it.
type RedisConfig struct {
	redisconn.Config
	RedisChannels []string `help:"Channels to subscribe to." default:"daemon:events" group:"Redis"`
	RedisPatterns []string `help:"Patterns to subscribe to. Those that Redis forbids are left out, which /readyz and the log say; the same holds for channels." default:"daemon:events:*,daemon:*:events" group:"Redis"`

	RedisDrainLists    bool          `help:"Take events also from the lists (or sorted sets) daemon:events:<name> and routing:queue:<name> that Neolith keeps for daemons that are away. Only where nothing else reads these lists." group:"Redis"`
	RedisDrainInterval time.Duration `help:"How long it takes at most until these lists are looked at again; about a second, unless Redis takes long to search its keys. At most half of DUPLICATE_WINDOW, so that what was heard as well is stored once." default:"30s" min:"1s" group:"Redis"`
}

// Validate reports settings that contradict each other.
func (c Config) Validate(report func(setting, problem string)) {
	if c.Redis.RedisDrainLists && c.Redis.RedisDrainInterval > c.Log.DuplicateWindow/2 {
		report("REDIS_DRAIN_INTERVAL", "expected at most half of DUPLICATE_WINDOW")
	}
}

// Validate reports that there is nothing to hear. It hides that of the embedded
// struct, which is called by itself.
func (c RedisConfig) Validate(report func(setting, problem string)) {
	if len(c.RedisChannels)+len(c.RedisPatterns) == 0 {
		report("REDIS_CHANNELS", "expected a channel, or a pattern in REDIS_PATTERNS: there is nothing to hear")
	}
}

// subscriptions returns what is to be subscribed to, each once: Redis confirms
// a repeated name only once more, not as one more.
func (c RedisConfig) subscriptions() (channels, patterns []string) {
	return distinct(c.RedisChannels), distinct(c.RedisPatterns)
}

func distinct(names []string) []string {
	sorted := slices.Sorted(slices.Values(names))
	return slices.Compact(sorted)
}
