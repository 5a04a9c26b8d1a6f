package eventlog_test

import (
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
