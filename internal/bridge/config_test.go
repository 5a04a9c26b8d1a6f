package bridge

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/settings"
)

func parse(args ...string) (Config, error) {
	var cfg Config
	err := settings.Parse("publisher-bridge", "", &cfg, args, func(string) (string, bool) { return "", false })
	return cfg, err
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	cfg, err := parse()
	require.NoError(t, err)
	require.Equal(t, 100_000, cfg.PublishBuffer)
	require.Equal(t, []string{"daemon:events"}, cfg.Redis.RedisChannels)
	require.Empty(t, cfg.Redis.RedisPatterns)
	require.False(t, cfg.Redis.RedisDrainLists)
	require.NotEmpty(t, cfg.Node())
	_, err = parse("--redis-drain-lists", "--redis-drain-interval=60s")
	require.NoError(t, err)
}

func TestMistakesAreReported(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no URL":            {[]string{"--redis-url=http://user:hunter2@host"}, "REDIS_URL"},
		"broken URL":        {[]string{"--redis-url=redis://user:hunter2@host:x"}, "REDIS_URL"},
		"no Sentinels":      {[]string{"--redis-master-name=m"}, "REDIS_ADDRS"},
		"no port":           {[]string{"--redis-addrs=a,b:1"}, "REDIS_ADDRS"},
		"no host":           {[]string{"--redis-addrs=:6379"}, "REDIS_ADDRS"},
		"port is no number": {[]string{"--redis-addrs=a:redis"}, "REDIS_ADDRS"},
		"a URL":             {[]string{"--redis-addrs=redis://a:6379"}, "REDIS_ADDRS"},
		"Cluster database":  {[]string{"--redis-url=redis://h/3", "--redis-addrs=a:1"}, "REDIS_URL"},
		"nothing to hear":   {[]string{"--redis-channels="}, "REDIS_CHANNELS"},
		"drained too late":  {[]string{"--redis-drain-lists", "--redis-drain-interval=61s"}, "REDIS_DRAIN_INTERVAL"},
		"drained too often": {[]string{"--redis-drain-interval=1ms"}, "REDIS_DRAIN_INTERVAL"},
		"no buffer":         {[]string{"--publish-buffer=0"}, "PUBLISH_BUFFER"},
		"no time to stop":   {[]string{"--shutdown-timeout=0s"}, "SHUTDOWN_TIMEOUT"},
		"no admin address":  {[]string{"--admin-addr=nowhere"}, "ADMIN_ADDR"},
		"wrong NATS client": {[]string{"--nats-tls-key=x"}, "NATS_TLS_CERT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(tt.args...)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestRedisClients(t *testing.T) {
	t.Parallel()
	cfg, err := parse("--redis-url=rediss://user:pw@redis.example:6380/3")
	require.NoError(t, err)
	client, err := NewRedisClient(cfg.Redis)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	options := client.(*redis.Client).Options()
	require.Equal(t, "redis.example:6380", options.Addr)
	require.Equal(t, 3, options.DB)
	require.Equal(t, "user", options.Username)
	require.Equal(t, "redis.example", options.TLSConfig.ServerName)

	cfg.Redis.RedisAddrs, cfg.Redis.RedisMasterName = []string{"a:1", "b:2"}, "m"
	require.Empty(t, problems(cfg.Redis), "Sentinels do know databases")
	cfg.Redis.RedisMasterName = ""
	require.Equal(t, []string{"REDIS_URL"}, problems(cfg.Redis))
	cfg.Redis.RedisURL = "rediss://user:pw@redis.example:6380"
	require.Empty(t, problems(cfg.Redis))
	cluster, err := NewRedisClient(cfg.Redis)
	require.NoError(t, err)
	t.Cleanup(func() { _ = cluster.Close() })
	require.Equal(t, []string{"a:1", "b:2"}, cluster.(*redis.ClusterClient).Options().Addrs)
	require.Empty(t, cluster.(*redis.ClusterClient).Options().TLSConfig.ServerName, "each node has its own name")
}

// problems returns the settings that Validate reports.
func problems(cfg RedisConfig) (settings []string) {
	cfg.Validate(func(setting, _ string) { settings = append(settings, setting) })
	return settings
}

func TestRepeatedSubscriptionsCountOnce(t *testing.T) {
	t.Parallel()
	cfg := RedisConfig{RedisChannels: []string{"b", "a", "b"}, RedisPatterns: []string{"x*", "x*"}}
	channels, patterns := cfg.subscriptions()
	require.Equal(t, []string{"a", "b"}, channels)
	require.Equal(t, []string{"x*"}, patterns)
}
