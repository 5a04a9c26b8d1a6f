package redisconn_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/redisconn"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func TestMain(m *testing.M) { testserver.Main(m) }

func parse(args ...string) (redisconn.Config, error) {
	var cfg redisconn.Config
	err := settings.Parse("test", "", &cfg, args, func(string) (string, bool) { return "", false })
	return cfg, err
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
		"no effect":         {[]string{"--redis-url=redis://:hunter2@h?read_timeout=9s&db=1"}, "expected no option read_timeout"},
		"half a password":   {[]string{"--redis-url=redis://:hunter?hunter2@h"}, "REDIS_URL"},
		"Cluster database":  {[]string{"--redis-url=redis://h/3", "--redis-addrs=a:1"}, "REDIS_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(tt.args...)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestOneServer(t *testing.T) {
	t.Parallel()
	options := client(t, "--redis-url=rediss://user:pw@redis.example:6380/3").(*redis.Client).Options()
	require.Equal(t, "redis.example:6380", options.Addr)
	require.Equal(t, 3, options.DB)
	require.Equal(t, "user", options.Username)
	require.Equal(t, "redis.example", options.TLSConfig.ServerName)
}

func TestSentinelsKnowDatabases(t *testing.T) {
	t.Parallel()
	_, err := parse("--redis-url=redis://h/3", "--redis-addrs=a:1,b:2", "--redis-master-name=m")
	require.NoError(t, err)
}

func TestNodesOfAClusterHaveTheirOwnNames(t *testing.T) {
	t.Parallel()
	options := client(t, "--redis-url=rediss://user:pw@redis.example:6380", "--redis-addrs=a:1,b:2").(*redis.ClusterClient).Options()
	require.Equal(t, []string{"a:1", "b:2"}, options.Addrs)
	require.Empty(t, options.TLSConfig.ServerName)
}

// client is made from what an operator gives.
func client(t *testing.T, args ...string) redis.UniversalClient {
	t.Helper()
	cfg, err := parse(args...)
	require.NoError(t, err)
	c, err := redisconn.NewClient(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A widely used chart gives Sentinels the password of Redis; others give them one
// of their own, or none. A Sentinel that asks for none refuses one.
// Reports: redis/ioredis#318, helm/charts#14446.
func TestSentinelsMayAskForAPassword(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sentinel string   // what Sentinels ask for; empty: nothing
		url      []string // before and after the host
	}{
		"none":          {"", []string{"redis://:pw@", ""}},
		"that of Redis": {"pw", []string{"redis://:pw@", ""}},
		"their own":     {"other", []string{"redis://:pw@", "?sentinel_password=other"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.Sentinel(t, 0)
			for _, sentinel := range s.Sentinels {
				admin := sentinel.Client(func(o *redis.Options) { o.Protocol = 2 })
				require.NoError(t, admin.Do(t.Context(), "SENTINEL", "SET", testserver.SentinelMaster, "auth-pass", "pw").Err())
				if tt.sentinel != "" {
					require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "resetpass", ">"+tt.sentinel).Err())
				}
			}
			master := s.Nodes[0].Client()
			require.NoError(t, master.Do(t.Context(), "ACL", "SETUSER", "default", "resetpass", ">pw").Err())
			c := client(t, "--redis-url="+tt.url[0]+"127.0.0.1:1"+tt.url[1], "--redis-addrs="+strings.Join(s.Addrs(), ","), "--redis-master-name="+testserver.SentinelMaster)
			var err error
			require.Eventually(t, func() bool {
				err = c.Set(t.Context(), "key", "value", 0).Err()
				return err == nil
			}, testserver.Patience, 10*time.Millisecond)
			require.Equal(t, "value", master.Get(t.Context(), "key").Val())
		})
	}
}

func TestPasswordsOfSentinelsAreNotPrinted(t *testing.T) {
	t.Parallel()
	cfg, err := parse("--redis-url=redis://:hunter1@h?sentinel_username=u&sentinel_password=hunter2", "--redis-addrs=a:1", "--redis-master-name=m")
	require.NoError(t, err)
	require.NotContains(t, cfg.RedisURL.String(), "hunter")
	_, err = parse("--redis-url=redis://:hunter1@h?sentinel_password=hunter2&no=option", "--redis-addrs=a:1", "--redis-master-name=m")
	require.ErrorContains(t, err, "REDIS_URL")
	require.NotContains(t, err.Error(), "hunter")
}

func TestAServerMayBeASocketOfTheMachine(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "redis.sock")
	server := testserver.Redis(t, "--unixsocket", socket)
	c := client(t, "--redis-url=unix://"+socket+"?db=2&client_name=bridge-of-mine")
	require.NoError(t, c.Set(t.Context(), "key", "there", 0).Err())
	require.Equal(t, "there", server.Client(func(o *redis.Options) { o.DB = 2 }).Get(t.Context(), "key").Val())
	require.Contains(t, c.ClientList(t.Context()).Val(), "name=bridge-of-mine")
}
