package devcluster

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const patience = testserver.Patience

// config takes free ports everywhere.
func config(t *testing.T, data string) Config {
	t.Helper()
	cfg := settings.Default[Config]()
	cfg.Data, cfg.Port, cfg.AdminPort, cfg.NATSPort, cfg.RedisPort = data, 0, 0, 0, 0
	return cfg
}

// start runs a cluster until stop is called.
func start(t *testing.T, cfg Config) (c *Cluster, told *testserver.Journal, stop func()) {
	t.Helper()
	told = &testserver.Journal{}
	c, err := New(cfg, told, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	t.Cleanup(stop)
	require.Eventually(t, func() bool { return strings.Contains(told.String(), "Ctrl-C") }, patience, readyPoll, "ready")
	return c, told, stop
}

func publish(t *testing.T, c *Cluster, body string) {
	t.Helper()
	options, err := redis.ParseURL(c.RedisURL())
	require.NoError(t, err)
	rdb := redis.NewClient(options)
	defer func() { require.NoError(t, rdb.Close()) }()
	require.NoError(t, rdb.Publish(t.Context(), "daemon:events", body).Err())
}

// await returns the first event that a daemon receives.
func await(t *testing.T, c *Cluster) protocol.Event {
	t.Helper()
	received := make(chan protocol.Event, 10)
	daemon, err := client.New(client.Config{
		URLs: c.EdgeURLs(), OrchestratorID: handOrchestrator, DaemonID: handDaemon,
		Token:         func(context.Context) (string, error) { return c.Token(handOrchestrator, handDaemon, time.Hour) },
		Subscriptions: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		Handler: func(_ context.Context, e protocol.Event) error {
			received <- e
			return nil
		},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-ended)
	}()
	select {
	case e := <-received:
		return e
	case <-time.After(patience):
		require.Fail(t, "no event arrived")
		return protocol.Event{}
	}
}

// The first thing that somebody sees of the gateway is no warning, however soon it is
// interrupted.
func TestNothingIsWarnedOfInAFirstRun(t *testing.T) {
	t.Parallel()
	for name, until := range map[string]func(*testserver.Journal) bool{
		"interrupted at once":         func(*testserver.Journal) bool { return true },
		"interrupted while it starts": func(told *testserver.Journal) bool { return strings.Contains(told.String(), "readyz") },
		"interrupted later":           func(told *testserver.Journal) bool { return strings.Contains(told.String(), "Ctrl-C") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 3 {
				cfg := config(t, t.TempDir())
				cfg.Demo = true
				told, log := &testserver.Journal{}, &testserver.Journal{}
				c, err := New(cfg, told, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: cfg.LogLevel})))
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() { ended <- c.Run(ctx) }()
				require.Eventually(t, func() bool { return until(told) }, patience, readyPoll)
				cancel()
				require.NoError(t, <-ended)
				require.Empty(t, log.String())
			}
		})
	}
}

const hello = `{"id":"hello-1","type":"message.received","orchestratorId":"you","payload":{"content": "hello"},"requiresAck":true}`

func TestClusterStartedAgainDeliversWhatCameWhileNobodyWasConnected(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	c, told, stop := start(t, config(t, data))
	require.Contains(t, told.String(), "redis-cli -h 127.0.0.1 -p ")
	require.Contains(t, told.String(), "websocat ws://127.0.0.1:")
	require.Contains(t, told.String(), "bin/gatewayctl top")
	require.Less(t, strings.Count(told.String(), "\n"), 60, "it fits on a screen")
	publish(t, c, hello)
	stored := c.storedEvents(t)
	require.Eventually(t, func() bool { return stored() > 0 }, patience, readyPoll, "stored")
	secret := c.secret
	stop()

	c, _, _ = start(t, config(t, data))
	require.Equal(t, secret, c.secret, "tokens outlive a restart")
	e := await(t, c)
	require.Equal(t, "hello-1", e.EventID)
	require.Equal(t, `{"content": "hello"}`, string(e.Data))
}

func TestDemoTellsWhatItsDaemonsReceive(t *testing.T) {
	t.Parallel()
	cfg := config(t, t.TempDir())
	cfg.Demo = true
	_, told, _ := start(t, cfg)
	require.Eventually(t, func() bool {
		return strings.Contains(told.String(), "received") && strings.Contains(told.String(), "connected to edge-2")
	}, patience, readyPoll)
}

func TestSecondClusterIsKeptOffTheDataOfTheFirst(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	start(t, config(t, data))
	_, err := New(config(t, data), &testserver.Journal{}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "another cluster runs on "+data)
}

// storedEvents returns a func that counts the events stored for trying by hand.
func (c *Cluster) storedEvents(t *testing.T) func() uint64 {
	t.Helper()
	js := testserver.JetStream(t, c.NATSURL())
	token := event.TokenOf(handOrchestrator)
	p := event.PartitionOf(token, c.partitions)
	return func() uint64 {
		stream, err := js.Stream(t.Context(), event.StreamName(p))
		require.NoError(t, err)
		info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(event.Subject(p, token)))
		require.NoError(t, err)
		return info.State.Subjects[event.Subject(p, token)]
	}
}
