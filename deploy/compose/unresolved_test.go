package compose_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/bridge"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// A bridge with a database may let events wait, and remove what it has brought
// into the log.
func TestBridgesMayRemoveTheUnresolvedEventsThatTheyHavePublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	database := testserver.Postgres(t)
	database.NeolithTables(t)
	cfg := settings.Default[bridge.Config]()
	cfg.NodeName, cfg.NATS, cfg.Admin.AdminAddr = "bridge", w.natsConfig("bridge"), "127.0.0.1:0"
	cfg.Redis.RedisURL, cfg.Postgres.DatabaseURL = settings.URL(w.redis.URL()), settings.URL(database.URL())
	cfg.Identity.QueryTimeout = patience
	cfg.Upkeep.ManageStreams = false
	w.administer()
	w.start("router", restrictedly)
	w.run(bridge.New(cfg, slog.New(slog.NewTextHandler(w.told, nil))))

	all, _ := w.client(unlimited)
	client := w.redis.Client()
	wait := func(yes bool) bool { // false also where nobody can tell
		stream, err := all.Stream(t.Context(), eventlog.UnresolvedStream)
		return err == nil && (stream.CachedInfo().State.Msgs > 0) == yes
	}
	sent := 0
	require.Eventually(t, func() bool { // until the bridge listens
		sent++
		text := fmt.Sprintf(`{"id":"%d","type":"a.b","orchestratorId":"user","payload":{}}`, sent)
		return client.Publish(t.Context(), "daemon:events", text).Err() == nil && wait(true)
	}, patience, 50*time.Millisecond, w.told)
	database.AddOrchestrators(t, testserver.Orchestrator{ID: "clx1", User: "user"})
	require.Eventually(t, func() bool { return wait(false) }, patience, 50*time.Millisecond, w.told)
	partition := event.PartitionOf("clx1", 16)
	stream, err := all.Stream(t.Context(), event.StreamName(partition))
	require.NoError(t, err)
	_, err = stream.GetLastMsgForSubject(t.Context(), event.Subject(partition, "clx1"))
	require.NoError(t, err)
}
