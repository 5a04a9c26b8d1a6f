package e2e_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// says sets what Neolith's own server would write of all orchestrators.
func (f *fleet) says(status string) {
	f.w.t.Helper()
	f.database.Execute(f.w.t, `update vps set status = $1::text::"VPStatus"`, status)
}

// everyone publishes an event for each of n orchestrators.
func (f *fleet) everyone(n int) []string {
	f.w.t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = f.publish(fmt.Sprintf("vp_%d", i))
	}
	return ids
}

// stored waits until the log has an event for each of n orchestrators.
func (f *fleet) stored(ids []string) {
	f.w.t.Helper()
	for n, id := range ids {
		orchestrator := protocol.OrchestratorID(fmt.Sprintf("vp_%d", n))
		f.w.eventually(func() bool {
			f.w.record()
			return f.w.Ledger.IsStored(orchestrator, id)
		}, "event %s is not in the log", id)
	}
}

// The gateway runs beside Neolith's own WebSocket server: first without a single
// daemon, then with all, then with none again.
func TestTheGatewayRunsInTheShadowTakesOverAndGivesBack(t *testing.T) {
	t.Parallel()
	const orchestrators = 10
	database := testserver.OwnPostgres(t)
	database.NeolithTables(t)
	w := startWorld(t, with(map[string]string{"DATABASE_URL": database.URL(), "PRESENCE_WHEN_GONE": "keep"}))
	f := &fleet{w: w, database: database, received: make(map[string]map[protocol.OrchestratorID]bool)}
	for n := range orchestrators {
		f.join(n)
	}
	f.says("ONLINE")

	// In the shadow it hears what others hear, and changes nothing.
	listener := redis.NewClient(&redis.Options{Addr: w.Redis.Addr})
	t.Cleanup(func() { _ = listener.Close() })
	elsewhere := listener.Subscribe(w.ctx, "daemon:events")
	t.Cleanup(func() { _ = elsewhere.Close() })
	_, err := elsewhere.Receive(w.ctx)
	require.NoError(t, err)
	shadow := f.everyone(orchestrators)
	f.stored(shadow)
	for range shadow {
		_, err := elsewhere.ReceiveMessage(w.ctx)
		require.NoError(t, err, "everybody hears every event")
	}
	f.shown("ONLINE", orchestrators)

	// What has been delivered elsewhere is purged, and daemons move over.
	for p := range partitions {
		stream, err := w.Log.JetStream().Stream(w.ctx, fmt.Sprintf("DAEMON_EVENTS_%d", p))
		require.NoError(t, err)
		require.NoError(t, stream.Purge(w.ctx))
	}
	before := f.everyone(orchestrators)
	var stops []func()
	connect := func() {
		for n := range orchestrators {
			stops = append(stops, f.connect(n))
		}
	}
	connect()
	for n, id := range append(before, f.everyone(orchestrators)...) {
		f.reaches(id, n%orchestrators)
	}
	f.mu.Lock()
	for _, id := range shadow {
		require.Empty(t, f.received[id], "%s was delivered elsewhere", id)
	}
	f.mu.Unlock()
	for _, n := range w.Routers {
		require.Zero(t, w.metric(n, "gateway_epoch_raised_total"), "a purge is no rollback")
	}

	// The other server has said OFFLINE after the gateway said ONLINE, and has left
	// one ONLINE that is not.
	conn := database.Connect(t)
	w.eventually(func() bool {
		var shown int
		err := conn.QueryRow(w.ctx, `select count(*) from daemon_gateway.presence`).Scan(&shown)
		return err == nil && shown == orchestrators
	}, "the gateway does not know whom it shows")
	f.says("OFFLINE")
	f.join(orchestrators)
	database.Execute(t, `update vps set status = 'ONLINE' where id = 'vp_10'`)
	database.Execute(t, `update vps set status = 'AWAY' where status in ('ONLINE', 'BUSY') and id not in (select orchestrator_id from daemon_gateway.presence where status <> 'OFFLINE')`)
	database.Execute(t, `update vps set status = p.status::"VPStatus" from daemon_gateway.presence p where p.orchestrator_id = id and vps.status = 'OFFLINE'`)
	f.shown("ONLINE", orchestrators)
	f.shown("AWAY", 1)

	// They go back. The gateway says nothing of daemons that are connected
	// elsewhere, and keeps their events.
	for _, stop := range stops {
		stop()
	}
	require.NoError(t, w.AwaitClaims(w.ctx, 0))
	meanwhile := f.everyone(orchestrators)
	f.stored(meanwhile)
	f.shown("ONLINE", orchestrators)
	connect()
	for n, id := range meanwhile {
		f.reaches(id, n)
	}
}
