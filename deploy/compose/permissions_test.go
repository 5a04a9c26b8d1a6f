// Package compose_test starts a NATS server with the configuration that the
// Compose file and the Helm chart give it, and finds out whether each tier may
// do what it must, and nothing that it must not.
package compose_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/bridge"
	"github.com/neolith/daemon-gateway/internal/edge"
	"github.com/neolith/daemon-gateway/internal/lab/probe"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/router"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

const (
	secret   settings.Secret = "a-secret-of-the-tests-with-enough-bytes"
	patience                 = testserver.Patience
)

// password is that of every user.
const password = "p4ssword"

func TestMain(m *testing.M) {
	for _, user := range []string{"EDGE", "ROUTER", "BRIDGE", "BACKEND", "OPERATOR"} {
		if err := os.Setenv(user+"_PASSWORD", password); err != nil {
			panic(err)
		}
	}
	testserver.Main(m)
}

// world is NATS, Redis, and the tiers that run.
type world struct {
	t     *testing.T
	nats  *testserver.NATSServer
	redis *testserver.RedisServer
	told  *output // what all tiers log
	edge  string  // where daemons connect
	peers []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	folder := t.TempDir()
	for name, source := range map[string]string{
		"nats.conf":          "nats.conf",
		"authorization.conf": "../../helm/daemon-gateway/files/nats/authorization.conf",
	} {
		text, err := os.ReadFile(source)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), text, 0o600))
	}
	configured, err := server.ProcessConfigFile(filepath.Join(folder, "nats.conf"))
	require.NoError(t, err)
	w := &world{t: t, redis: testserver.Redis(t), told: &output{}}
	w.nats = testserver.NATS(t, func(o *server.Options) {
		base := *o
		*o = *configured
		o.Host, o.Port, o.HTTPPort, o.StoreDir, o.JetStreamMaxStore = base.Host, base.Port, 0, base.StoreDir, base.JetStreamMaxStore
		o.NoSigs, o.NoLog = true, true
	})
	return w
}

// url is NATS as a user sees it.
func (w *world) url(user string) string {
	return strings.Replace(w.nats.ClientURL(), "://", "://"+user+":"+password+"@", 1)
}

// inbox is the prefix under which a user is answered.
func inbox(user string) string { return "_INBOX_" + user }

func (w *world) natsConfig(user string) natsconn.Config {
	return natsconn.Config{NATSURL: []settings.URL{settings.URL(w.url(user))}, NATSInboxPrefix: inbox(user)}
}

// run runs a tier until the test ends.
func (w *world) run(program interface{ Run(context.Context) error }, err error) {
	w.t.Helper()
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- program.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		require.NoError(w.t, <-ended)
	})
}

// start starts a tier with its own NATS user.
func (w *world) start(tier string) {
	w.t.Helper()
	logger := slog.New(slog.NewTextHandler(w.told, nil))
	gossip := net.JoinHostPort("127.0.0.1", strconv.Itoa(testserver.Port(w.t)))
	switch tier {
	case "edge":
		cfg := settings.Default[edge.Config]()
		cfg.NodeName, cfg.NATS, cfg.Admin.AdminAddr = tier, w.natsConfig(tier), "127.0.0.1:0"
		cfg.Ring.GossipAddr, cfg.Ring.GossipJoin = gossip, w.peers
		cfg.Listen.ListenAddr, cfg.Auth.DaemonJWTSecret, cfg.Listen.DrainPeriod = "127.0.0.1:0", secret, 0
		e, err := edge.New(cfg, logger)
		w.run(e, err)
		w.edge = "ws://" + e.Addr().String() + "/daemon/ws"
	case "router":
		cfg := settings.Default[router.Config]()
		cfg.NodeName, cfg.NATS, cfg.Admin.AdminAddr = tier, w.natsConfig(tier), "127.0.0.1:0"
		cfg.Ring.GossipAddr, cfg.Ring.GossipJoin = gossip, w.peers
		w.run(router.New(cfg, logger))
	case "bridge":
		cfg := settings.Default[bridge.Config]()
		cfg.NodeName, cfg.NATS, cfg.Admin.AdminAddr = tier, w.natsConfig(tier), "127.0.0.1:0"
		cfg.Redis.RedisURL = settings.URL(w.redis.URL())
		w.run(bridge.New(cfg, logger))
	}
	w.peers = append(w.peers, gossip)
}

// client connects as a user; what the server forbids it arrives in violations.
func (w *world) client(user string) (js jetstream.JetStream, violations chan error) {
	w.t.Helper()
	violations = make(chan error, 16)
	report := nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { violations <- err })
	return testserver.JetStream(w.t, w.url(user), report, nats.CustomInboxPrefix(inbox(user))), violations
}

// Whoever comes first on an empty server creates all that there is to be.
func TestEachTierMayDoAllThatItMust(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"edge", "router", "bridge"}, {"router", "bridge", "edge"}, {"bridge", "edge", "router"}} {
		t.Run(order[0]+" first", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.start(order[0])
			operator, _ := w.client("operator")
			require.Eventually(t, func() bool {
				_, err := operator.KeyValue(t.Context(), "daemon_cursors_15")
				return err == nil
			}, patience, 20*time.Millisecond, w.told)
			w.start(order[1])
			w.start(order[2])
			cfg := settings.Default[probe.Config]()
			cfg.EdgeURL, cfg.DaemonJWTSecret, cfg.Redis.RedisURL = settings.URL(w.edge), secret, settings.URL(w.redis.URL())
			cfg.Timeout = patience
			require.NoError(t, probe.Once(t.Context(), cfg, slog.New(slog.DiscardHandler)), w.told)
			require.NotContains(t, strings.ToLower(w.told.String()), "permissions violation")
		})
	}
}

func TestBackendsMayPublishEventsAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start("router")
	operator, _ := w.client("operator")
	var partition jetstream.Stream
	require.Eventually(t, func() bool {
		var err error
		partition, err = operator.Stream(t.Context(), event.StreamName(event.PartitionOf(event.TokenOf("clx1"), 16)))
		return err == nil
	}, patience, 20*time.Millisecond)

	backend, violations := w.client("backend")
	_, err := backend.Publish(t.Context(), "daemon.events.clx1", []byte(`{}`))
	require.NoError(t, err, "the mapping of the server adds the partition")
	library, err := publisher.New(backend, publisher.Config{})
	require.NoError(t, err)
	_, err = library.Publish(t.Context(), event.Event{ID: "e1", Type: "a.b", OrchestratorID: "clx1", Payload: []byte(`{}`)})
	require.NoError(t, err, "it may ask how many partitions there are")
	_, err = partition.GetLastMsgForSubject(t.Context(), event.Subject(event.PartitionOf(event.TokenOf("clx1"), 16), "clx1"))
	require.NoError(t, err)

	for _, subject := range []string{"daemon.events.0.=", "daemon.edge.edge.deliver", "daemon.edge.edge.ack", "daemon.edge.edge.cursor", "$JS.API.STREAM.LIST", "$KV.gateway_cluster.partitions"} {
		require.NoError(t, backend.Conn().Publish(subject, nil))
		requireViolation(t, violations, subject)
	}
	_, err = backend.Conn().Subscribe("daemon.events.>", func(*nats.Msg) {})
	require.NoError(t, err)
	requireViolation(t, violations, "daemon.events.>")
}

func requireViolation(t *testing.T, violations chan error, subject string) {
	t.Helper()
	select {
	case err := <-violations:
		require.ErrorContains(t, err, subject)
		require.ErrorIs(t, err, nats.ErrPermissionViolation)
	case <-time.After(patience):
		require.Fail(t, "allowed", subject)
	}
}

func TestNoTierMayDoWhatAnotherIsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for user, forbidden := range map[string][]string{
		"edge": {
			"daemon.edge.other.deliver", "daemon.events.0.clx1", "$KV.gateway_checkpoints.0",
			"$JS.API.STREAM.PURGE.DAEMON_EVENTS_0", "$JS.API.STREAM.UPDATE.DAEMON_EVENTS_0",
		},
		"router": {
			"daemon.edge.other.ack", "daemon.edge.other.cursor", "daemon.canary", "$KV.daemon_cursors_0.clx1",
			"$JS.API.STREAM.PURGE.DAEMON_EVENTS_0",
		},
		"bridge": {
			"daemon.edge.other.deliver", "daemon.edge.other.ack", "daemon.edge.other.cursor",
			"$KV.daemon_cursors_0.clx1", "$KV.gateway_checkpoints.0",
			"$JS.API.STREAM.PURGE.DAEMON_EVENTS_0", "$JS.API.STREAM.UPDATE.DAEMON_EVENTS_0",
		},
	} {
		js, violations := w.client(user)
		for _, subject := range forbidden {
			require.NoError(t, js.Conn().Publish(subject, nil))
			requireViolation(t, violations, subject)
		}
	}
}

// Regression: a backend could subscribe to _INBOX.>, and read the events on their
// way to a router.
func TestNoUserMayReadWhatAnotherIsAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, user := range restricted {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			js, violations := w.client(user)
			forbidden := []string{">", "*.>", "_INBOX.>", "_INBOX.*.*", "_INBOX.x", "$JS.>", "$KV.>", "$JS.EVENT.>", "daemon.>", "daemon.events.>", "daemon.*.*.*"}
			for _, other := range append([]string{"operator"}, restricted...) {
				if other != user {
					forbidden = append(forbidden, inbox(other)+".>", inbox(other)+".*", inbox(other)+".x")
				}
			}
			for _, subject := range forbidden {
				_, err := js.Conn().Subscribe(subject, func(*nats.Msg) {})
				require.NoError(t, err)
				requireViolation(t, violations, subject)
				_, err = js.Conn().QueueSubscribe(subject, "workers", func(*nats.Msg) {})
				require.NoError(t, err)
				requireViolation(t, violations, subject)
			}
			for _, subject := range []string{inbox(user) + ".>", inbox(user) + ".x.*"} {
				_, err := js.Conn().Subscribe(subject, func(*nats.Msg) {})
				require.NoError(t, err)
			}
			require.NoError(t, js.Conn().FlushTimeout(patience))
			require.Empty(t, violations)
		})
	}
}

// restricted are the users that may do only some things.
var restricted = []string{"edge", "router", "bridge", "backend"}

// output may be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
