package e2e_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// TestNeolithSeesWhatADaemonReports: in Redis, where its health page looks, and
// in vps.status, also after Redis was away; and then the history has the session.
func TestNeolithSeesWhatADaemonReports(t *testing.T) {
	t.Parallel()
	database := testserver.OwnPostgres(t)
	database.NeolithTables(t)
	database.AddOrchestrators(t, testserver.Orchestrator{ID: "vp", User: "user", Organization: "org"})
	w := startWorld(t, with(map[string]string{"DATABASE_URL": database.URL(), "WS_HEARTBEAT_INTERVAL": "1000", "PRESENCE_GRACE": "1s"}))
	neolith := redis.NewClient(&redis.Options{Addr: w.Redis.Addr})
	t.Cleanup(func() { _ = neolith.Close() })
	live := neolith.Subscribe(w.ctx, "daemon:heartbeats:org")
	defer func() { _ = live.Close() }()
	_, err := live.Receive(w.ctx)
	require.NoError(t, err)
	stop := w.busyDaemon("vp", "daemon")

	message, err := live.ReceiveMessage(w.ctx)
	require.NoError(t, err)
	require.Contains(t, message.Payload, `"type":"heartbeat","orchestratorId":"vp","status":"busy"`)
	w.eventually(func() bool {
		return w.reported(neolith, "vp").Status == protocol.StatusBusy && neolith.LLen(w.ctx, "daemon:metrics:vp").Val() > 0
	}, "no heartbeat in Redis")
	require.Equal(t, "org", w.reported(neolith, "vp").Organization)
	require.LessOrEqual(t, neolith.TTL(w.ctx, "daemon:heartbeat:vp").Val(), 90*time.Second)

	shown := database.Connect(t)
	status := func() (text string) {
		require.NoError(t, shown.QueryRow(w.ctx, "select status::text from vps where id = 'vp'").Scan(&text))
		return text
	}
	w.eventually(func() bool { return status() == "BUSY" }, "never BUSY")

	w.Redis.Kill()
	require.NoError(t, w.Redis.Start()) // empty
	w.eventually(func() bool { return w.reported(neolith, "vp").Status == protocol.StatusBusy }, "no heartbeat after Redis is back")
	stop()
	w.eventually(func() bool { return status() == "AWAY" }, "never AWAY")
	w.eventually(func() bool {
		var sessions int
		require.NoError(t, shown.QueryRow(w.ctx, `select count(*) from daemon_gateway.session_overview
			where orchestrator_id = 'vp' and daemon_id = 'daemon' and edge = 'edge-1' and state = 'ended'`).Scan(&sessions))
		return sessions > 0 // more, where it had to come again
	}, "the session is not in the history")
	s := w.ctl("orchestrator", "vp")
	require.Zero(t, s.code, s.err)
	require.Regexp(t, `Last sessions:\nDAEMON +STATE .*\ndaemon +ended `, s.out)
}

// reported is what Neolith's health page finds; zero: nothing.
func (w *world) reported(neolith *redis.Client, orchestrator string) (r struct {
	Status       protocol.Status    `json:"status"`
	Metrics      map[string]float64 `json:"metrics"`
	Organization string             `json:"organizationId"`
}) {
	w.t.Helper()
	text, err := neolith.Get(w.ctx, "daemon:heartbeat:"+orchestrator).Bytes()
	if err == nil {
		require.NoError(w.t, json.Unmarshal(text, &r))
		require.Equal(w.t, map[string]float64{"errors": 3}, r.Metrics)
	}
	return r
}

// busyDaemon runs a daemon that is busy, until stop or the end of the test.
func (w *world) busyDaemon(orchestrator protocol.OrchestratorID, daemon protocol.DaemonID) (stop func()) {
	w.t.Helper()
	token := func(context.Context) (string, error) {
		return auth.Mint(cluster.Secret, auth.Grant{
			Orchestrator: orchestrator, Daemon: daemon, ExpiresAt: time.Now().Add(time.Hour),
		})
	}
	d, err := client.New(client.Config{
		URLs: []string{w.Edges[0].URL}, Token: token, OrchestratorID: orchestrator, DaemonID: daemon,
		Subscriptions: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		Handler:       func(context.Context, protocol.Event) error { return nil },
		Health: func() protocol.Heartbeat {
			return protocol.Heartbeat{Status: protocol.StatusBusy, Metrics: protocol.Numbers(map[string]float64{"errors": 3})}
		},
	})
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	w.t.Cleanup(stop)
	return stop
}
