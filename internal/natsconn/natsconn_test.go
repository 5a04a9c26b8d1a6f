package natsconn_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const waitTime = testserver.Patience

func connect(t *testing.T, url string, onReconnect func()) (*natsconn.Conn, *prometheus.Registry) {
	t.Helper()
	cfg := settings.Default[natsconn.Config]()
	cfg.NATSURL = []settings.URL{settings.URL(url)}
	reg := prometheus.NewPedanticRegistry()
	c, err := natsconn.Connect(t.Context(), cfg, "test", slog.New(slog.DiscardHandler), reg, onReconnect)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, reg
}

func up(t *testing.T, reg *prometheus.Registry, want string) {
	t.Helper()
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP gateway_nats_up Whether the connection to NATS is up.
# TYPE gateway_nats_up gauge
gateway_nats_up `+want+"\n"), "gateway_nats_up"))
}

func ready(c *natsconn.Conn) func() bool {
	return func() bool { ok, _ := c.Check(); return ok }
}

func TestConnectBeforeNATSIsThere(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	url := s.ClientURL()
	s.Shutdown()
	c, reg := connect(t, url, nil)
	ok, detail := c.Check()
	require.False(t, ok)
	require.Equal(t, "reconnecting", detail)
	up(t, reg, "0")
	s.Start()
	require.Eventually(t, ready(c), waitTime, time.Millisecond)
	_, detail = c.Check()
	require.Equal(t, "connected to "+url, detail)
	up(t, reg, "1")
}

func TestReconnects(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	again := make(chan struct{}, 10)
	c, _ := connect(t, s.ClientURL(), func() { again <- struct{}{} })
	s.Shutdown()
	require.Eventually(t, func() bool { return !ready(c)() }, waitTime, time.Millisecond)
	require.ErrorIs(t, c.NC.Publish("x", nil), nats.ErrReconnectBufExceeded, "nothing is kept for later")
	s.Start()
	<-again
	require.True(t, ready(c)())
	select {
	case <-c.Closed():
		t.Fatal("an outage is not the end of the connection")
	default:
	}
}

func TestClosedUnaskedIsReported(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	c, _ := connect(t, s.ClientURL(), nil)
	// What a control line over 4 KiB does to a connection, the server may also
	// do in other cases; the client library then ends up closed.
	c.NC.Close()
	<-c.Closed()
	require.ErrorIs(t, c.Run(t.Context()), natsconn.ErrClosed)
	ok, detail := c.Check()
	require.False(t, ok)
	require.Equal(t, "closed", detail)
}

func TestCloseIsNotReported(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	c, _ := connect(t, s.ClientURL(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	c.Close()
	cancel()
	require.NoError(t, <-ended)
	c.Close()
}

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mutate func(*natsconn.Config)
		want   []string
	}{
		"defaults":    {mutate: func(*natsconn.Config) {}},
		"no URL":      {mutate: func(c *natsconn.Config) { c.NATSURL = nil }, want: []string{"NATS_URL"}},
		"half a pair": {mutate: func(c *natsconn.Config) { c.NATSTLSKey = "key.pem" }, want: []string{"NATS_TLS_CERT"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := settings.Default[natsconn.Config]()
			c.mutate(&cfg)
			var got []string
			cfg.Validate(func(setting, _ string) { got = append(got, setting) })
			require.Equal(t, c.want, got)
		})
	}
}

func TestMistakesInTheConfigurationAreErrors(t *testing.T) {
	t.Parallel()
	cfg := settings.Default[natsconn.Config]()
	cfg.NATSTLSCA = "/does/not/exist"
	_, err := natsconn.Connect(t.Context(), cfg, "test", slog.New(slog.DiscardHandler), prometheus.NewRegistry(), nil)
	require.Error(t, err)
}
