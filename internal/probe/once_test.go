package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/devcluster"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const secret settings.Secret = "a-secret-of-the-tests-with-enough-bytes"

// target runs a gateway until the test ends, and returns what tries it.
func target(t *testing.T) Config {
	t.Helper()
	cfg := settings.Default[devcluster.Config]()
	cfg.Data, cfg.Port, cfg.AdminPort, cfg.NATSPort, cfg.RedisPort = t.TempDir(), 0, 0, 0, 0
	cfg.Edges, cfg.Routers, cfg.Bridges, cfg.DaemonJWTSecret = 1, 1, 2, secret
	cluster, err := devcluster.New(cfg, io.Discard, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- cluster.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	tried := settings.Default[Config]()
	tried.Timeout = testserver.Patience
	tried.EdgeURL, tried.DaemonJWTSecret = settings.URL(cluster.EdgeURLs()[0]), secret
	tried.Redis.RedisURL = settings.URL(cluster.RedisURL())
	tried.NATSURL, tried.LogURL = settings.URL(cluster.NATSURL()), settings.URL(cluster.NATSURL())
	return tried
}

// loaded is target for a trial under load.
func loaded(t *testing.T) Config {
	t.Helper()
	cfg := target(t)
	cfg.Daemons, cfg.Rate = 5, 60
	return cfg
}

func TestAnEventComesBackFromAGatewayThatWorks(t *testing.T) {
	t.Parallel()
	require.NoError(t, Once(t.Context(), target(t), slog.New(slog.DiscardHandler)))
}

func TestTheErrorSaysHowFarItWent(t *testing.T) {
	t.Parallel()
	works := target(t)
	for name, tt := range map[string]struct {
		change func(*Config)
		// enough is the log line at which the probe is ended; empty: it ends by itself.
		enough string
		want   string
	}{
		"another secret":   {func(c *Config) { c.DaemonJWTSecret = "another-secret-of-thirty-two-bytes-or-more" }, "", "connect to the edge and subscribe: daemon gateway-probe ended"},
		"nobody there":     {func(c *Config) { c.EdgeURL = "ws://127.0.0.1:1/daemon/ws" }, "disconnected", "connect to the edge and subscribe: daemon gateway-probe is not subscribed: enough"},
		"nobody listening": {func(c *Config) { c.RedisChannel = "unheard" }, "published", "the daemon was not sent it: enough"},
		"Redis away":       {func(c *Config) { c.Redis.RedisURL = "redis://127.0.0.1:1" }, "", "publish on Redis"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := works
			tt.change(&cfg)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			logger := slog.New(endAt{slog.DiscardHandler, tt.enough, cancel})
			require.ErrorContains(t, Once(ctx, cfg, logger), tt.want)
		})
	}
}

func TestAnEventThatDoesNotComeInTimeIsAnError(t *testing.T) {
	t.Parallel()
	cfg := target(t)
	cfg.EdgeURL, cfg.Timeout = "ws://127.0.0.1:1/daemon/ws", time.Millisecond
	require.ErrorContains(t, Once(t.Context(), cfg, slog.New(slog.DiscardHandler)), "not delivered within 1ms")
}

// What keeps a daemon away is told once, and not at each try: also where the address of
// this end stands in the error, which differs.
func TestTheProbeTellsAtEachChangeWhyItIsNotConnected(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	change := told(slog.New(slog.NewTextHandler(&log, nil)), "prober", func() {})
	reset := func(port int) error {
		return &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port}, Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 8080}, Err: syscall.ECONNRESET}
	}
	away := func(err error) client.StateChange {
		return client.StateChange{State: client.StateDisconnected, URL: "ws://10.0.0.2:8080", Close: protocol.CloseAbnormal, Err: err}
	}
	said := func() int { return strings.Count(log.String(), "msg=disconnected") }
	for port := range 5 {
		change(away(reset(1 + port)))
	}
	require.Equal(t, 1, said(), log.String())
	change(away(syscall.ECONNREFUSED))
	require.Equal(t, 2, said(), "something else keeps it away")
	change(client.StateChange{State: client.StateSubscribed})
	change(away(syscall.ECONNREFUSED))
	require.Equal(t, 3, said(), "it was connected meanwhile")
}

// endAt ends a probe when it logs a message.
type endAt struct {
	slog.Handler
	message string
	end     context.CancelCauseFunc
}

func (endAt) Enabled(context.Context, slog.Level) bool { return true }

func (h endAt) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		h.end(errors.New("enough"))
	}
	return nil
}

func TestNothingTellsThePasswordsOfATrial(t *testing.T) {
	t.Parallel()
	cfg := settings.Default[Config]()
	cfg.ControlAddr, cfg.NATSURL = "127.0.0.1:0", "nats://127.0.0.1:1"
	cfg.LogURL = "nats://backup:hunter2@127.0.0.1:1"
	err := UnderLoad(t.Context(), cfg, io.Discard, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "connect to nats://***@127.0.0.1:1")
	require.NotContains(t, err.Error(), "hunter2")

	err = settings.Parse("test", "", &cfg, []string{
		"--daemon-jwt-secret=hunter2", "--edge-url=http://u:hunter2@edge", "--nats-url=nats://u:hunter2@h:port", "--log-url=nats://h?password=hunter2",
	}, func(string) (string, bool) { return "", false })
	for _, setting := range []string{"EDGE_URL", "NATS_URL", "LOG_URL"} {
		require.ErrorContains(t, err, setting)
	}
	require.NotContains(t, err.Error(), "hunter2")
}
