// Package compose_test starts a NATS server with the configuration that the
// Compose file and the Helm chart give it, and finds out whether each tier may
// do what it must, and nothing that it must not.
package compose_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/bridge"
	"github.com/neolith/daemon-gateway/internal/edge"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/probe"
	"github.com/neolith/daemon-gateway/internal/router"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/upkeep"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

const (
	secret   settings.Secret = "a-secret-of-the-tests-with-enough-bytes"
	patience                 = testserver.Patience
)

// password is that of every user.
const password = "p4ssword"

// unlimited is a user that the tests add, who may do everything.
const unlimited = "unlimited"

func TestMain(m *testing.M) {
	for _, user := range []string{"EDGE", "ROUTER", "BRIDGE", "ADMIN", "BACKEND", "OPERATOR", "BACKUP"} {
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
	told  *testserver.Journal // what all tiers log
	edge  string              // where daemons connect
	peers []string
	// database is what all tiers have as DATABASE_URL; "": none.
	database settings.URL
	// domain is that of the JetStream that is used; "": the server's own.
	domain string
}

// Permissions of the users, as files.
const (
	// shipped are what the Compose file and the chart give their own servers.
	shipped = "../../helm/daemon-gateway/files/nats/authorization.conf"
	// transition is for the time of the change to those.
	transition = "../../helm/daemon-gateway/files/nats/authorization-transition.conf"
	// before are what users had before.
	before = "testdata/authorization-before.conf"
)

func newWorld(t *testing.T, permissions string) *world {
	t.Helper()
	text, err := os.ReadFile(permissions)
	require.NoError(t, err)
	return layOut(t, text, func(*server.Options) {})
}

// layOut starts NATS with permissions; change may alter its options first.
func layOut(t *testing.T, permissions []byte, change func(*server.Options)) *world {
	t.Helper()
	folder := t.TempDir()
	text, err := os.ReadFile("nats.conf")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "nats.conf"), text, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "authorization.conf"), permissions, 0o600))
	configured, err := server.ProcessConfigFile(filepath.Join(folder, "nats.conf"))
	require.NoError(t, err)
	configured.Users = append(configured.Users, &server.User{Username: unlimited, Password: password})
	w := &world{t: t, redis: testserver.Redis(t), told: &testserver.Journal{}}
	w.nats = testserver.NATS(t, func(o *server.Options) {
		base := *o
		*o = *configured
		o.Host, o.Port, o.HTTPPort, o.StoreDir, o.JetStreamMaxStore = base.Host, base.Port, 0, base.StoreDir, base.JetStreamMaxStore
		o.NoSigs, o.NoLog = true, true
		change(o)
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
	return natsconn.Config{NATSURL: []settings.URL{settings.URL(w.url(user))}, NATSInboxPrefix: inbox(user), NATSJetStreamDomain: w.domain}
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

// manner is how a node uses NATS.
type manner struct{ unmanaged, ownInbox bool }

var (
	restrictedly = manner{unmanaged: true, ownInbox: true} // as the Compose file and the chart have it
	asBefore     = manner{}                                // as by default
)

func (m manner) nats(w *world, user string) natsconn.Config {
	cfg := w.natsConfig(user)
	if !m.ownInbox {
		cfg.NATSInboxPrefix = settings.Default[natsconn.Config]().NATSInboxPrefix
	}
	return cfg
}

// start starts a tier with its own NATS user, and returns its admin address.
func (w *world) start(tier string, m manner) (admin string) {
	w.t.Helper()
	logger := slog.New(slog.NewTextHandler(w.told, nil))
	gossip := net.JoinHostPort("127.0.0.1", strconv.Itoa(testserver.Port(w.t)))
	switch tier {
	case "edge":
		cfg := settings.Default[edge.Config]()
		cfg.NodeName, cfg.NATS, cfg.Admin.AdminAddr = tier, m.nats(w, tier), "127.0.0.1:0"
		cfg.Upkeep.ManageStreams, cfg.Trace.TraceSample = !m.unmanaged, 1
		cfg.Ring.GossipAddr, cfg.Ring.GossipJoin = gossip, w.peers
		cfg.Listen.ListenAddr, cfg.Auth.DaemonJWTSecret, cfg.Listen.DrainPeriod = "127.0.0.1:0", secret, 0
		cfg.Database.Postgres.DatabaseURL, cfg.Database.IdentityFallback = w.database, edge.FallbackCached
		e, err := edge.New(cfg, logger)
		w.run(e, err)
		w.edge, admin = "ws://"+e.Addr().String()+"/daemon/ws", e.AdminAddr().String()
	case "router":
		cfg := settings.Default[router.Config]()
		cfg.NodeName, cfg.NATS, cfg.Admin.AdminAddr = tier, m.nats(w, tier), "127.0.0.1:0"
		cfg.Upkeep.ManageStreams, cfg.Trace.TraceSample = !m.unmanaged, 1
		cfg.Ring.GossipAddr, cfg.Ring.GossipJoin, cfg.Postgres.DatabaseURL = gossip, w.peers, w.database
		r, err := router.New(cfg, logger)
		w.run(r, err)
		admin = r.AdminAddr()
	case "bridge":
		cfg := settings.Default[bridge.Config]()
		cfg.NodeName, cfg.NATS, cfg.Admin.AdminAddr = tier, m.nats(w, tier), "127.0.0.1:0"
		cfg.Upkeep.ManageStreams, cfg.Trace.TraceSample = !m.unmanaged, 1
		cfg.Redis.RedisURL, cfg.Postgres.DatabaseURL = settings.URL(w.redis.URL()), w.database
		b, err := bridge.New(cfg, logger)
		w.run(b, err)
		admin = b.AdminAddr().String()
	}
	w.peers = append(w.peers, gossip)
	return admin
}

// administer runs gateway-admin.
func (w *world) administer(change ...func(*upkeep.Config)) {
	w.t.Helper()
	cfg := settings.Default[upkeep.Config]()
	cfg.NATS, cfg.KeepUnresolved, cfg.Timeout = w.natsConfig("admin"), true, patience
	for _, f := range change {
		f(&cfg)
	}
	require.NoError(w.t, upkeep.Run(w.t.Context(), cfg, slog.New(slog.NewTextHandler(w.told, nil))), w.told)
}

// says reads what /readyz says about the log.
func (w *world) says(admin string) (ready bool, detail string) {
	response, err := http.Get("http://" + admin + "/readyz")
	if err != nil {
		return false, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	var body struct {
		Checks map[string]struct {
			Ready  bool
			Detail string
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		return false, err.Error()
	}
	return body.Checks["log"].Ready, body.Checks["log"].Detail
}

// delivers sends an event from Redis to a daemon.
func (w *world) delivers() {
	w.t.Helper()
	cfg := settings.Default[probe.Config]()
	cfg.EdgeURL, cfg.DaemonJWTSecret, cfg.Redis.RedisURL = settings.URL(w.edge), secret, settings.URL(w.redis.URL())
	cfg.Timeout = patience
	require.NoError(w.t, probe.Once(w.t.Context(), cfg, slog.New(slog.DiscardHandler)), w.told)
}

// traces waits until each tier has said what it had to do with an event.
func (w *world) traces() {
	w.t.Helper()
	all, _ := w.client(unlimited)
	records, err := all.OrderedConsumer(w.t.Context(), eventlog.TraceStream, jetstream.OrderedConsumerConfig{})
	require.NoError(w.t, err)
	messages, err := records.Messages()
	require.NoError(w.t, err)
	defer messages.Stop()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	said := map[string]bool{}
	for !said["bridge"] || !said["router"] || !said["edge"] {
		m, err := messages.Next(jetstream.NextContext(ctx))
		require.NoError(w.t, err, "%v have said something: %s", said, w.told)
		var record trace.Record
		require.NoError(w.t, json.Unmarshal(m.Data(), &record))
		said[record.Hops[len(record.Hops)-1].Tier] = true
	}
}

// client connects as a user; what the server forbids it arrives in violations.
func (w *world) client(user string) (js jetstream.JetStream, violations chan error) {
	w.t.Helper()
	violations = make(chan error, 2048)
	report := nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { violations <- err })
	nc := testserver.Connect(w.t, w.url(user), report, nats.CustomInboxPrefix(inbox(user)))
	js, err := w.natsConfig(user).JetStream(nc, jetstream.WithDefaultTimeout(time.Minute))
	require.NoError(w.t, err)
	return js, violations
}

// Nodes that start before gateway-admin has run wait for it, and say so.
func TestEachTierMayDoAllThatItMust(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"edge", "router", "bridge"}, {"router", "bridge", "edge"}, {"bridge", "edge", "router"}} {
		t.Run(order[0]+" first", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, shipped)
			admin := w.start(order[0], restrictedly)
			require.Eventually(t, func() bool {
				ready, detail := w.says(admin)
				return !ready && strings.Contains(detail, "gateway-admin makes it")
			}, patience, 20*time.Millisecond, w.told)
			require.Contains(t, w.told.String(), "gateway-admin makes it")
			w.start(order[1], restrictedly)
			w.administer()
			w.start(order[2], restrictedly)
			w.delivers()
			w.traces()
			require.NotContains(t, strings.ToLower(w.told.String()), "permissions violation")
		})
	}
}

// Limits that differ for the time of a rollout keep nobody from working.
func TestANodeSaysWhatIsNotAsItIsConfiguredAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	w.administer(func(cfg *upkeep.Config) { cfg.Log.DeadletterRetention = time.Hour })
	admin := w.start("router", restrictedly)
	require.Eventually(t, func() bool {
		ready, detail := w.says(admin)
		return ready && detail == "open; other settings than this node's have: DAEMON_DEADLETTERS; gateway-admin changes them"
	}, patience, 20*time.Millisecond, w.told)
	w.administer()
	all, _ := w.client(unlimited)
	stream, err := all.Stream(t.Context(), eventlog.DeadletterStream)
	require.NoError(t, err)
	require.Equal(t, settings.Default[eventlog.Config]().DeadletterRetention, stream.CachedInfo().Config.MaxAge)
}

// The order of docs/upgrading.md: new programs with the permissions and settings of
// before; the permissions of the transition, with settings of both kinds; those
// that are shipped.
func TestEachStepOfTheWayToTheseUsersWorks(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]struct {
		permissions          string
		edge, router, bridge manner
		administered         bool
	}{
		"new programs, nothing else":     {before, asBefore, asBefore, asBefore, false},
		"permissions of both kinds":      {transition, asBefore, asBefore, asBefore, true},
		"the edge has changed":           {transition, restrictedly, asBefore, asBefore, true},
		"the router has changed":         {transition, asBefore, restrictedly, asBefore, true},
		"the bridge has changed":         {transition, asBefore, asBefore, restrictedly, true},
		"all have changed":               {transition, restrictedly, restrictedly, restrictedly, true},
		"the inbox alone, to begin with": {transition, manner{ownInbox: true}, manner{ownInbox: true}, manner{ownInbox: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, step.permissions)
			if step.administered {
				w.administer()
			}
			w.start("router", step.router)
			w.start("bridge", step.bridge)
			w.start("edge", step.edge)
			w.delivers()
			require.NotContains(t, strings.ToLower(w.told.String()), "permissions violation")
		})
	}
}

func TestBackendsMayPublishEventsAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	w.administer()
	all, _ := w.client(unlimited)
	partition, err := all.Stream(t.Context(), event.StreamName(event.PartitionOf(event.TokenOf("clx1"), 16)))
	require.NoError(t, err)

	backend, violations := w.client("backend")
	_, err = backend.Publish(t.Context(), "daemon.events.clx1", []byte(`{}`))
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

// Regression: a backend could subscribe to _INBOX.>, and read the events on their
// way to a router.
func TestNoUserMayReadWhatAnotherIsAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	for _, user := range everybody {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			js, violations := w.client(user)
			forbidden := []string{">", "*.>", "_INBOX.>", "_INBOX.*.*", "_INBOX.x", "$JS.>", "$KV.>", "$JS.EVENT.>", "daemon.>", "daemon.events.>", "daemon.*.*.*", "daemon.operation.>", "$SRV.>"}
			for _, other := range everybody {
				if other != user {
					forbidden = append(forbidden, "daemon.operation."+other+".*", "$SRV.PING.gateway-"+other)
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

// restricted are the users that may do only some things with what is stored; backup, who
// may do all, has no other rights.
var (
	restricted = []string{"edge", "router", "bridge", "backend", "admin", "operator"}
	everybody  = append(slices.Clone(restricted), "backup")
)
