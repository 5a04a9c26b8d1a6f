package bridge

import (
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/bridge/intake"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config is everything that an operator may say to a bridge.
type Config struct {
	settings.Common
	Admin  admin.Config    `embed:""`
	NATS   natsconn.Config `embed:""`
	Log    eventlog.Config `embed:""`
	Redis  RedisConfig     `embed:""`
	Intake intake.Config   `embed:""`

	Postgres postgres.Config `embed:""`
	Identity identity.Config `embed:""`

	PublishBuffer int `help:"Events held while NATS is away (at most 256 MiB together); then the oldest are dropped, counted and logged. About 1 KB of memory each." default:"100000" min:"1" max:"10000000" group:"Bridge"`
}

// RedisConfig says which Redis is heard, and what on it.
type RedisConfig struct {
	RedisURL        settings.URL `help:"Redis server, redis:// or rediss:// (TLS), with user, password and database number where needed." default:"redis://127.0.0.1:6379" group:"Redis"`
	RedisAddrs      []string     `help:"Sentinels or nodes of a Redis Cluster, a list of host:port. They replace the host of REDIS_URL, whose other parts stay in force." group:"Redis"`
	RedisMasterName string       `help:"Name under which the Sentinels in REDIS_ADDRS know the master; empty: REDIS_ADDRS are nodes of a Cluster." group:"Redis"`
	RedisChannels   []string     `help:"Channels to subscribe to." default:"daemon:events" group:"Redis"`
	RedisPatterns   []string     `help:"Patterns to subscribe to; known ones are daemon:events:* and daemon:*:events." group:"Redis"`

	RedisDrainLists    bool          `help:"Take events also from the lists daemon:events:<name> that Neolith's message router keeps for daemons that are away. Only where nothing else reads these lists." group:"Redis"`
	RedisDrainInterval time.Duration `help:"How often these lists are looked at; at most half of DUPLICATE_WINDOW, so that what was heard as well is stored once." default:"30s" min:"1s" group:"Redis"`
}

// Validate reports settings that contradict each other.
func (c Config) Validate(report func(setting, problem string)) {
	if c.Redis.RedisDrainLists && c.Redis.RedisDrainInterval > c.Log.DuplicateWindow/2 {
		report("REDIS_DRAIN_INTERVAL", "expected at most half of DUPLICATE_WINDOW")
	}
}

// Validate reports what cannot be connected to or heard.
func (c RedisConfig) Validate(report func(setting, problem string)) {
	// ParseURL's error may quote the password, so it is not passed on.
	base, err := redis.ParseURL(string(c.RedisURL))
	if err != nil {
		report("REDIS_URL", "expected redis://[user:password@]host[:port][/database] or rediss://…")
	}
	if c.RedisMasterName != "" && len(c.RedisAddrs) == 0 {
		report("REDIS_ADDRS", "expected the Sentinels' addresses, since REDIS_MASTER_NAME is given")
	}
	if slices.ContainsFunc(c.RedisAddrs, func(addr string) bool { return !isHostPort(addr) }) {
		report("REDIS_ADDRS", "expected host:port for each")
	}
	if err == nil && base.DB != 0 && c.cluster() {
		report("REDIS_URL", "expected no database number: a Redis Cluster has only one database")
	}
	if len(c.RedisChannels)+len(c.RedisPatterns) == 0 {
		report("REDIS_CHANNELS", "expected a channel, or a pattern in REDIS_PATTERNS: there is nothing to hear")
	}
}

// cluster reports whether the servers are nodes of a Redis Cluster.
func (c RedisConfig) cluster() bool { return len(c.RedisAddrs) > 0 && c.RedisMasterName == "" }

func isHostPort(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// Timeouts of single Redis operations; they also bound how long a stop may wait
// for one.
const (
	redisDialTimeout = 3 * time.Second
	redisIOTimeout   = 3 * time.Second
)

// NewRedisClient returns a client that has not connected yet. c is valid.
func NewRedisClient(c RedisConfig) (redis.UniversalClient, error) {
	base, err := redis.ParseURL(string(c.RedisURL))
	if err != nil {
		return nil, errRedisURL
	}
	options := &redis.UniversalOptions{
		Addrs:     []string{base.Addr},
		Username:  base.Username,
		Password:  base.Password,
		DB:        base.DB,
		TLSConfig: base.TLSConfig,
		// RESP2: every server speaks it, and pub/sub needs nothing newer.
		Protocol:      2,
		DialTimeout:   redisDialTimeout,
		DialerRetries: 1, // we have a backoff of our own
		MaxRetries:    -1,
		ReadTimeout:   redisIOTimeout,
		WriteTimeout:  redisIOTimeout,
		// So that a lookup ends with its context.
		ContextTimeoutEnabled: true,
	}
	if len(c.RedisAddrs) > 0 {
		options.Addrs = c.RedisAddrs
		options.MasterName = c.RedisMasterName
		options.IsClusterMode = c.cluster()
		if options.TLSConfig != nil {
			// Each server has a name of its own, taken from its address.
			options.TLSConfig = options.TLSConfig.Clone()
			options.TLSConfig.ServerName = ""
		}
	}
	return redis.NewUniversalClient(options), nil
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
