package probe_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/devcluster"
	"github.com/neolith/daemon-gateway/internal/lab/probe"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const secret settings.Secret = "a-secret-of-the-tests-with-enough-bytes"

// target runs a gateway until the test ends, and returns what tries it.
func target(t *testing.T) probe.Config {
	t.Helper()
	cfg := settings.Default[devcluster.Config]()
	cfg.Data, cfg.Port, cfg.AdminPort, cfg.NATSPort, cfg.RedisPort = t.TempDir(), 0, 0, 0, 0
	cfg.Edges, cfg.Routers, cfg.Bridges, cfg.DaemonJWTSecret = 1, 1, 1, secret
	cluster, err := devcluster.New(cfg, io.Discard, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- cluster.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	tried := settings.Default[probe.Config]()
	tried.EdgeURL, tried.DaemonJWTSecret = settings.URL(cluster.EdgeURLs()[0]), secret
	tried.Redis.RedisURL = settings.URL(cluster.RedisURL())
	return tried
}

func TestAnEventComesBackFromAGatewayThatWorks(t *testing.T) {
	t.Parallel()
	require.NoError(t, probe.Run(t.Context(), target(t), slog.New(slog.DiscardHandler)))
}

func TestTheErrorSaysHowFarItWent(t *testing.T) {
	t.Parallel()
	works := target(t)
	for name, tt := range map[string]struct {
		change func(*probe.Config)
		want   string
	}{
		"another secret":   {func(c *probe.Config) { c.DaemonJWTSecret = "another-secret-of-thirty-two-bytes-or-more" }, "the edge refuses the probe"},
		"nobody there":     {func(c *probe.Config) { c.EdgeURL = "ws://127.0.0.1:1/daemon/ws" }, "connect to the edge and subscribe: not delivered within 2s"},
		"nobody listening": {func(c *probe.Config) { c.RedisChannel = "unheard" }, "the daemon was not sent it: not delivered within 2s"},
		"Redis away":       {func(c *probe.Config) { c.Redis.RedisURL = "redis://127.0.0.1:1" }, "publish on Redis"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := works
			tt.change(&cfg)
			if name != "another secret" && name != "Redis away" {
				cfg.Timeout = 2 * time.Second
			}
			require.ErrorContains(t, probe.Run(t.Context(), cfg, slog.New(slog.DiscardHandler)), tt.want)
		})
	}
}
