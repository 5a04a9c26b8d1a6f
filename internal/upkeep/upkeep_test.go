package upkeep_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/upkeep"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestMain(m *testing.M) { testserver.Main(m) }

func config(url string) upkeep.Config {
	cfg := settings.Default[upkeep.Config]()
	cfg.NATS.NATSURL, cfg.Log.Partitions, cfg.Timeout = []settings.URL{settings.URL(url)}, 2, testserver.Patience
	return cfg
}

func TestItMakesAndChangesAllThatThereIsToBe(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	cfg := config(s.ClientURL())
	logger := slog.New(slog.DiscardHandler)
	require.NoError(t, upkeep.Run(t.Context(), cfg, logger))
	_, err := s.JetStream().Stream(t.Context(), eventlog.UnresolvedStream)
	require.Error(t, err, "only where it is asked for")
	cfg.KeepUnresolved, cfg.Log.EventRetention = true, time.Hour
	for range 2 {
		require.NoError(t, upkeep.Run(t.Context(), cfg, logger))
	}
	for _, name := range []string{event.StreamName(0), event.StreamName(1), eventlog.UnresolvedStream} {
		stream, err := s.JetStream().Stream(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, time.Hour, stream.CachedInfo().Config.MaxAge, name)
	}
}

// A request that is refused is never answered: that says nothing to an operator.
func TestItSaysWhichPermissionItsUserLacks(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{"$JS.API.>"}, Deny: []string{"$JS.API.STREAM.CREATE.>"}},
		}}}
	})
	cfg := config(strings.Replace(s.ClientURL(), "://", "://u:p@", 1))
	cfg.Timeout = 2 * time.Second // it ends by that alone
	err := upkeep.Run(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "lacks a permission: publish to $JS.API.STREAM.CREATE.KV_gateway_cluster")
	require.ErrorContains(t, err, "not done within 2s (TIMEOUT)")
}
