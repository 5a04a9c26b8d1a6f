package edge

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// recorded is a row of the history.
type recorded struct {
	orchestrator, daemon, edge, address, reason string
	subscribed, ended                           bool
	code                                        *int
	sent, acked, redelivered                    int
}

func recordedOf(t *testing.T, conn *pgx.Conn, orchestrator string) (all []recorded) {
	t.Helper()
	rows, err := conn.Query(context.Background(), `select orchestrator_id, daemon_id, edge, host(remote_address), subscribed_at >= authenticated_at,
			coalesce(ended_at >= connected_at, false), close_code, coalesce(close_reason, ''), sent, acked, redelivered
		from daemon_gateway.session_overview where orchestrator_id = $1 order by connected_at`, orchestrator)
	if err != nil {
		return nil // the table is not there yet
	}
	all, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (v recorded, err error) {
		var subscribed *bool
		err = r.Scan(&v.orchestrator, &v.daemon, &v.edge, &v.address, &subscribed, &v.ended, &v.code, &v.reason, &v.sent, &v.acked, &v.redelivered)
		v.subscribed = subscribed != nil && *subscribed
		return v, err
	})
	if err != nil {
		return nil
	}
	return all
}

func withDatabase(database *testserver.Database) func(*Config) {
	return func(cfg *Config) {
		cfg.Database.Postgres.DatabaseURL = settings.URL(database.URL())
		cfg.Delivery.AckTimeout, cfg.Delivery.MaxDeliveries = 200*time.Millisecond, 1000
	}
}

func TestTheHistoryTellsWhatBecameOfASession(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	database := testserver.Postgres(t)
	database.NeolithTables(t)
	database.AddOrchestrators(t, testserver.Orchestrator{ID: "vp/1", User: "user"})
	n := c.edge(withDatabase(database))
	conn := database.Connect(t)
	stranger := n.dial()
	stranger.send("auth", `{"accessToken":"no","daemonId":"d","orchestratorId":"vp/1"}`)
	stranger.expectClose(protocol.CloseAuthFailed)
	quiet := n.login("vp/1", "quiet")
	d := n.attach("vp/1", "daemon", everything)

	first, second := c.publish("vp/1"), c.publish("vp/1")
	c.forward(n, first, 0)
	c.forward(n, second, first.sequence)
	for seen, repeated := map[string]bool{}, false; len(seen) < 2 || !repeated; {
		e := d.expect(protocol.TypeEvent)
		seen[e.text("eventId")] = true
		repeated = repeated || e.Payload["redelivered"] == true
	}
	d.send("ack", fmt.Sprintf(`{"eventIds":[%q,%q]}`, first.id, second.id))
	n.eventuallyMetric(`gateway_edge_events_total{outcome="acked"}`, "2")
	require.NoError(t, d.conn.Close(websocket.StatusCode(4000), "had enough"))
	require.NoError(t, quiet.conn.Close(websocket.StatusNormalClosure, ""))

	gone, normal := 4000, 1000
	require.Eventually(t, func() bool {
		all := recordedOf(t, conn, "vp/1")
		return len(all) == 2 && all[0].ended && all[1].ended
	}, testserver.Patience, 20*time.Millisecond)
	all := recordedOf(t, conn, "vp/1")
	require.GreaterOrEqual(t, all[1].sent, 3)
	require.Equal(t, all[1].sent-2, all[1].redelivered)
	all[1].sent, all[1].redelivered = 3, 1
	require.Equal(t, []recorded{
		{orchestrator: "vp/1", daemon: "quiet", edge: "edge0", address: "127.0.0.1", ended: true, code: &normal},
		{
			orchestrator: "vp/1", daemon: "daemon", edge: "edge0", address: "127.0.0.1", subscribed: true, ended: true,
			code: &gone, reason: "had enough", sent: 3, acked: 2, redelivered: 1,
		},
	}, all)
}

func TestADrainWritesTheHistory(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	database := testserver.Postgres(t)
	database.NeolithTables(t)
	database.AddOrchestrators(t, testserver.Orchestrator{ID: "vp", User: "user"})
	n := c.edge(withDatabase(database))
	conn := database.Connect(t)
	n.attach("vp", "daemon", everything)
	require.Eventually(t, func() bool { return len(recordedOf(t, conn, "vp")) == 1 }, testserver.Patience, 20*time.Millisecond)
	n.stop()
	all := recordedOf(t, conn, "vp")
	require.Len(t, all, 1)
	require.True(t, all[0].ended)
	require.Equal(t, 1001, *all[0].code)
}

func TestNoDaemonWaitsForTheHistory(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	database := testserver.OwnPostgres(t)
	database.NeolithTables(t)
	database.AddOrchestrators(t, testserver.Orchestrator{ID: "vp", User: "user"})
	n := c.edge(withDatabase(database.Database), func(cfg *Config) {
		cfg.Sockets.WSMaxConnectionsPerVP = 100 // "before" makes room for nobody, however late the others' ends are noticed
	})
	conn := database.Connect(t)
	n.attach("vp", "before", everything)
	require.Eventually(t, func() bool {
		all := recordedOf(t, conn, "vp")
		return len(all) == 1 && all[0].subscribed
	}, testserver.Patience, 20*time.Millisecond)
	database.Stop()
	for i := range 4 {
		d := n.attach("vp", fmt.Sprintf("daemon-%d", i), everything)
		require.NoError(t, d.conn.Close(websocket.StatusNormalClosure, ""))
	}
	n.eventuallyMetric("gateway_history_waiting", "4")
	database.Start()
	conn = database.Connect(t)
	require.Eventually(t, func() bool { return len(recordedOf(t, conn, "vp")) == 5 }, testserver.Patience, 20*time.Millisecond)
}
