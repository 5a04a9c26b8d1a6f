package redisconn_test

import (
	"net"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/redisconn"
)

// pair writes a certificate that is its own authority, and its key.
func pair(t *testing.T, serial int64) (certificate, key string) {
	t.Helper()
	return testserver.NewCertificate(t, serial).Files(t)
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

func TestRedisWithAnAuthorityAndClientCertificatesOfItsOwn(t *testing.T) {
	t.Parallel()
	server, serverKey := pair(t, 1)
	mine, myKey := pair(t, 2)
	other, otherKey := pair(t, 3)
	port := freePort(t)
	testserver.Redis(t, "--tls-port", port, "--tls-cert-file", server, "--tls-key-file", serverKey, "--tls-ca-cert-file", mine)
	url := "--redis-url=rediss://127.0.0.1:" + port
	ask := func(args ...string) error {
		cfg, err := parse(append(args, url)...)
		require.NoError(t, err)
		c, err := redisconn.NewClient(cfg)
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		return c.Ping(t.Context()).Err()
	}
	require.NoError(t, ask("--redis-tls-ca="+server, "--redis-tls-cert="+mine, "--redis-tls-key="+myKey))
	require.ErrorContains(t, ask("--redis-tls-cert="+mine, "--redis-tls-key="+myKey), "unknown authority")
	require.ErrorContains(t, ask("--redis-tls-ca="+other, "--redis-tls-cert="+mine, "--redis-tls-key="+myKey), "unknown authority")
	require.ErrorContains(t, ask("--redis-tls-ca="+server, "--redis-tls-cert="+mine, "--redis-tls-key="+myKey, "--redis-tls-server-name=elsewhere"), "not elsewhere")
	require.NoError(t, ask("--redis-tls-ca="+server, "--redis-tls-cert="+mine, "--redis-tls-key="+myKey, "--redis-tls-server-name="+testserver.CertificateName))
	require.Error(t, ask("--redis-tls-ca="+server), "the server wants a certificate")
	require.Error(t, ask("--redis-tls-ca="+server, "--redis-tls-cert="+other, "--redis-tls-key="+otherKey), "and a known one")
}

// The files hold for Sentinels as for the servers that they name.
func TestSentinelsUseTheSameFiles(t *testing.T) {
	t.Parallel()
	server, serverKey := pair(t, 1)
	cfg, err := parse("--redis-url=rediss://h", "--redis-addrs=a:1", "--redis-master-name=m", "--redis-tls-ca="+server,
		"--redis-tls-cert="+server, "--redis-tls-key="+serverKey)
	require.NoError(t, err)
	c, err := redisconn.NewClient(cfg)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	options := c.(*redis.Client).Options()
	require.NotNil(t, options.TLSConfig.RootCAs)
	require.NotNil(t, options.TLSConfig.GetClientCertificate)
	require.Empty(t, options.TLSConfig.ServerName)
	cfg.RedisTLSServerName = "redis.example"
	named, err := redisconn.NewClient(cfg)
	require.NoError(t, err)
	defer func() { _ = named.Close() }()
	require.Equal(t, "redis.example", named.(*redis.Client).Options().TLSConfig.ServerName)
}

func TestUnusableFilesAreReported(t *testing.T) {
	t.Parallel()
	good, key := pair(t, 1)
	for want, args := range map[string][]string{
		"REDIS_TLS_KEY":         {"--redis-url=rediss://h", "--redis-tls-cert=" + good},
		"not rediss://":         {"--redis-tls-ca=" + good},
		"REDIS_TLS_SERVER_NAME": {"--redis-tls-server-name=a"},
		"holds no certificate":  {"--redis-url=rediss://h", "--redis-tls-ca=" + key},
		"no such file":          {"--redis-url=rediss://h", "--redis-tls-ca=" + good + "x"},
		"certificate and its":   {"--redis-url=rediss://h", "--redis-tls-cert=" + key, "--redis-tls-key=" + good},
	} {
		_, err := parse(args...)
		require.ErrorContains(t, err, want)
	}
}

func TestAPasswordInPlainTextIsNoticed(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"redis://u:pw@redis.example":     true,
		"redis://:pw@192.0.2.1:6379":     true,
		"rediss://u:pw@redis.example":    false,
		"redis://redis.example":          false,
		"redis://u:pw@127.0.0.1":         false,
		"redis://u:pw@localhost:6379":    false,
		"redis://h?sentinel_password=pw": true,
		"unix://u:pw@/run/redis.sock":    false,
	} {
		cfg, err := parse("--redis-url=" + url)
		require.NoError(t, err)
		require.Equal(t, want, cfg.Exposed(), url)
	}
}
