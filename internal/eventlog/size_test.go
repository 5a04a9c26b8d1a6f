package eventlog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// A stock NATS server has less room than PARTITIONS times LOG_MAX_BYTES. The
// partitions are then smaller, all alike, and grow when there is room.
func TestPartitionsAreAsLargeAsFitAndAllAlike(t *testing.T) {
	t.Parallel()
	const gib = int64(1) << 30
	s := testserver.NATS(t, func(o *server.Options) { o.JetStreamMaxStore = 2 * gib })
	cfg := settings.Default[eventlog.Config]()
	cfg.Partitions = 4

	sizes := func() (all []int64) {
		for p := range event.Partition(cfg.Partitions) {
			stream, err := s.JetStream().Stream(t.Context(), event.StreamName(p))
			require.NoError(t, err)
			all = append(all, stream.CachedInfo().Config.MaxBytes)
		}
		return all
	}
	open(t, s.JetStream(), cfg)
	const fit = 10 * gib / 32 // five of these are in 2 GiB, of the double not
	require.Equal(t, []int64{fit, fit, fit, fit}, sizes())

	open(t, s.JetStream(), cfg, eventlog.Manage())
	require.Equal(t, []int64{fit, fit, fit, fit}, sizes(), "still no room for more")

	cfg.LogMaxBytes = settings.ByteSize(gib / 8)
	open(t, s.JetStream(), cfg)
	require.Equal(t, []int64{fit, fit, fit, fit}, sizes(), "only who manages changes the size")
	open(t, s.JetStream(), cfg, eventlog.Manage())
	require.Equal(t, []int64{gib / 8, gib / 8, gib / 8, gib / 8}, sizes())

	cfg.LogMaxBytes = settings.ByteSize(gib / 4)
	open(t, s.JetStream(), cfg, eventlog.Manage())
	require.Equal(t, []int64{gib / 4, gib / 4, gib / 4, gib / 4}, sizes())
}

// accounts returns a server whose only account has these limits of JetStream.
func accounts(t *testing.T, limits string) *testserver.NATSServer {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	text := fmt.Sprintf("accounts { APP { jetstream { %s }, users: [{user: app, password: app}] } }\nno_auth_user: app", limits)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	configured, err := server.ProcessConfigFile(file)
	require.NoError(t, err)
	return testserver.NATS(t, func(o *server.Options) {
		o.Accounts, o.Users, o.NoAuthUser = configured.Accounts, configured.Users, configured.NoAuthUser
	})
}

// Regression: with an account that requires sizes, as hosted NATS has them, no node
// became ready: buckets had none.
// Reports: matrix-org/dendrite#3417, wasmCloud/wadm#418.
func TestEverythingHasASizeThatTheAccountAllows(t *testing.T) {
	t.Parallel()
	const mib = int64(1) << 20
	for name, tt := range map[string]struct {
		limits    string
		partition int64
	}{
		"sizes are required":            {"max_file: 100G, max_bytes_required: true", 1024 * mib},
		"and the account has less room": {"max_file: 2G, max_bytes_required: true", 512 * mib},
		"and streams may not be so large": {
			"max_file: 100G, disk_max_stream_bytes: 200M, max_bytes_required: true", 200_000_000,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := accounts(t, tt.limits).JetStream()
			l := open(t, js, config(func(c *eventlog.Config) { c.LogMaxBytes = 1 << 30 }), eventlog.Manage())
			openUnresolved(t, l)
			infos := js.ListStreams(t.Context())
			found := 0
			for info := range infos.Info() {
				found++
				require.Positive(t, info.Config.MaxBytes, info.Config.Name)
				if info.Config.Name == event.StreamName(0) {
					require.Equal(t, tt.partition, info.Config.MaxBytes)
				}
			}
			require.NoError(t, infos.Err())
			require.Equal(t, 10, found)
			publish(t, l, "o", "e", "x")
		})
	}
}

// Buckets of earlier releases have no size. They get one that leaves room for what
// they hold; where NATS cannot reserve it, they do without as before.
func TestBucketsWithoutASizeGetOne(t *testing.T) {
	t.Parallel()
	const mib = int64(1) << 20
	for name, tt := range map[string]struct {
		store, held, want int64
		percent           int
	}{
		"an empty one":        {store: 8 << 30, percent: 5, want: 51 * mib},
		"one that holds more": {store: 8 << 30, percent: 1, held: 20 * mib, want: 40 * mib},
		"there is no room":    {store: 3<<30 + 330*mib, percent: 50, want: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.NATS(t, func(o *server.Options) { o.JetStreamMaxStore = tt.store })
			js := s.JetStream()
			cfg := config(func(c *eventlog.Config) { c.LogMaxBytes, c.CursorPercent = 1<<30, 1 })
			open(t, js, cfg)
			bucket := eventlog.BucketStream(eventlog.CursorBucket(0))
			stream, err := js.Stream(t.Context(), bucket)
			require.NoError(t, err)
			unsized := stream.CachedInfo().Config
			unsized.MaxBytes = -1
			_, err = js.UpdateStream(t.Context(), unsized)
			require.NoError(t, err)
			for n := int64(0); n < tt.held; n += mib / 2 {
				_, err := js.Publish(t.Context(), eventlog.BucketSubject(eventlog.CursorBucket(0), fmt.Sprint(n)), make([]byte, mib/2))
				require.NoError(t, err)
			}
			cfg.CursorPercent = tt.percent
			open(t, js, cfg, eventlog.Manage())
			stream, err = js.Stream(t.Context(), bucket)
			require.NoError(t, err)
			require.InDelta(t, tt.want, stream.CachedInfo().Config.MaxBytes, float64(mib))
		})
	}
}

// TestNothingIsLeftOfAReservation: NATS deletes a stream badly if one of the same
// name is deleted right before, and then is not healthy after its next start.
func TestNothingIsLeftOfAReservation(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := testserver.NATS(t, func(o *server.Options) { o.StoreDir = store })
	cfg := config()
	cfg.Partitions = 16
	logs := errgroup.Group{}
	for range 12 {
		logs.Go(func() error {
			_, err := eventlog.Open(t.Context(), s.JetStream(), cfg, quiet(), prometheus.NewPedanticRegistry(), eventlog.Manage())
			return err
		})
	}
	require.NoError(t, logs.Wait())
	for name := range strings.SplitSeq("DAEMON_GATEWAY_RESERVATION,.DAEMON_GATEWAY_RESERVATION", ",") {
		require.NoDirExists(t, filepath.Join(store, "jetstream", "$G", "streams", name))
	}
}
