package bridge

import (
	"testing"

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
	require.Equal(t, []string{"daemon:events:*", "daemon:*:events"}, cfg.Redis.RedisPatterns, "all that Neolith is known to use")
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
		"no Redis":          {[]string{"--redis-url=http://user:hunter2@host"}, "REDIS_URL"},
		"nothing to hear":   {[]string{"--redis-channels=", "--redis-patterns="}, "REDIS_CHANNELS"},
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

func TestRepeatedSubscriptionsCountOnce(t *testing.T) {
	t.Parallel()
	cfg := RedisConfig{RedisChannels: []string{"b", "a", "b"}, RedisPatterns: []string{"x*", "x*"}}
	channels, patterns := cfg.subscriptions()
	require.Equal(t, []string{"a", "b"}, channels)
	require.Equal(t, []string{"x*"}, patterns)
}
