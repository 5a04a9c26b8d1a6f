// Package nats_test starts NATS servers with the configuration that the official
// chart makes of values.yaml, and has the gateway's users do what they are for.
package nats_test

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/upkeep"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

// authorization is what the gateway's chart says of the users.
const authorization = "../../helm/daemon-gateway/files/nats/authorization.conf"

// password is that of every user.
const password = "p4ssword"

func TestMain(m *testing.M) {
	for _, user := range []string{"EDGE", "ROUTER", "BRIDGE", "ADMIN", "BACKEND", "OPERATOR", "BACKUP", "SYS"} {
		if err := os.Setenv(user+"_PASSWORD", password); err != nil {
			panic(err)
		}
	}
	if err := os.Setenv("SERVER_NAME", "nats-0"); err != nil {
		panic(err)
	}
	testserver.Main(m)
}

func configured(t *testing.T) *server.Options {
	t.Helper()
	o, err := server.ProcessConfigFile("nats.conf")
	require.NoError(t, err)
	return o
}

// users are what each user may do; the passwords aside.
func users(o []*server.User) map[string]*server.Permissions {
	found := map[string]*server.Permissions{}
	for _, u := range o {
		found[u.Username] = u.Permissions
	}
	return found
}

func TestTheUsersMayDoWhatTheGatewaysChartSays(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nats.conf")
	text, err := os.ReadFile(authorization)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))
	want, err := server.ProcessConfigFile(file)
	require.NoError(t, err)
	have := users(configured(t).Users)
	delete(have, "sys")
	require.Equal(t, users(want.Users), have)
}

// cluster starts the servers of the configuration, with other addresses, and
// returns their URLs.
func cluster(t *testing.T) (urls []string) {
	t.Helper()
	const size = 3
	var routes []*url.URL
	for range size {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", testserver.Port(t))})
	}
	for i := range size {
		o := configured(t)
		require.Len(t, o.Routes, size)
		o.ServerName = fmt.Sprintf("nats-%d", i)
		o.Host, o.Port, o.HTTPPort, o.PidFile = "127.0.0.1", server.RANDOM_PORT, 0, ""
		o.Cluster.Host, o.Routes = "127.0.0.1", slices.Clone(routes)
		_, err := fmt.Sscanf(routes[i].Port(), "%d", &o.Cluster.Port)
		require.NoError(t, err)
		o.StoreDir = t.TempDir()
		o.NoSigs, o.NoLog = true, true
		s, err := server.NewServer(o)
		require.NoError(t, err)
		go s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		require.True(t, s.ReadyForConnections(testserver.Patience))
		urls = append(urls, s.ClientURL())
	}
	return urls
}

// as is a URL as a user sees it.
func as(user, address string) string {
	return strings.Replace(address, "://", "://"+user+":"+password+"@", 1)
}

// Three servers, gateway-admin with three copies of everything, a backend that
// publishes by the mapping: what README.md promises.
func TestThreeServersTakeEventsByTheMapping(t *testing.T) {
	t.Parallel()
	urls := cluster(t)
	cfg := settings.Default[upkeep.Config]()
	cfg.NATS = natsconn.Config{NATSInboxPrefix: "_INBOX_admin"}
	for _, address := range urls {
		cfg.NATS.NATSURL = append(cfg.NATS.NATSURL, settings.URL(as("admin", address)))
	}
	cfg.Log.StreamReplicas = 3
	// Sizes as in the values: all 16 partitions have their room reserved.
	require.NoError(t, upkeep.Run(t.Context(), cfg, slog.New(slog.DiscardHandler)))

	operator := testserver.JetStream(t, as("operator", urls[0]), nats.CustomInboxPrefix("_INBOX_operator"))
	token := event.TokenOf("vp_1")
	stream, err := operator.Stream(t.Context(), event.StreamName(event.PartitionOf(token, 16)))
	require.NoError(t, err)
	require.Equal(t, 3, stream.CachedInfo().Config.Replicas)
	require.EqualValues(t, 10*settings.GiB, stream.CachedInfo().Config.MaxBytes, "there is room for what is configured")

	backend := testserver.JetStream(t, as("backend", urls[1]), nats.CustomInboxPrefix(publisher.InboxPrefix))
	var ack *jetstream.PubAck
	require.Eventually(t, func() bool {
		ack, err = backend.Publish(t.Context(), "daemon.events."+string(token), []byte(`{}`))
		return err == nil
	}, testserver.Patience, 20*time.Millisecond)
	require.Equal(t, event.StreamName(event.PartitionOf(token, 16)), ack.Stream)
	_, err = backend.Stream(t.Context(), eventlog.DeadletterStream)
	require.Error(t, err, "no backend sees what others have sent")
}
