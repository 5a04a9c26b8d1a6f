package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// fleet is the daemons of Neolith's orchestrators vp_0, vp_1, …, whose users are
// user_0, user_1, …
type fleet struct {
	w        *world
	database *testserver.PostgresServer

	mu       sync.Mutex
	received map[string]map[protocol.OrchestratorID]bool // by event
	sent     int
}

// join adds an orchestrator to Neolith.
func (f *fleet) join(n int) {
	f.w.t.Helper()
	f.database.AddOrchestrators(f.w.t, testserver.Orchestrator{ID: fmt.Sprintf("vp_%d", n), User: fmt.Sprintf("user_%d", n)})
}

// connect runs a daemon of an orchestrator, until stop or the end of the test.
func (f *fleet) connect(n int) (stop func()) {
	f.w.t.Helper()
	id := protocol.OrchestratorID(fmt.Sprintf("vp_%d", n))
	token := func(context.Context) (string, error) {
		return auth.Mint(cluster.Secret, auth.Grant{Orchestrator: id, Daemon: "daemon", ExpiresAt: time.Now().Add(time.Hour)})
	}
	d, err := client.New(client.Config{
		URLs: []string{f.w.Edges[n%len(f.w.Edges)].URL, f.w.Edges[(n+1)%len(f.w.Edges)].URL}, Token: token, OrchestratorID: id, DaemonID: "daemon",
		Subscriptions: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		Handler: func(_ context.Context, e protocol.Event) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.received[e.EventID] == nil {
				f.received[e.EventID] = make(map[protocol.OrchestratorID]bool)
			}
			f.received[e.EventID][id] = true
			return nil
		},
	})
	require.NoError(f.w.t, err)
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
	f.w.t.Cleanup(stop)
	return stop
}

// publish says an event to Redis as Neolith does, for the id given.
func (f *fleet) publish(addressee string) (id string) {
	f.w.t.Helper()
	f.sent++
	id = fmt.Sprintf("event_%d", f.sent)
	text := fmt.Sprintf(`{"id":%q,"type":"message.received","orchestratorId":%q,"payload":{"n":%d},"requiresAck":true}`, id, addressee, f.sent)
	require.NoError(f.w.t, f.w.Feed.PublishRaw(f.w.ctx, []byte(text)))
	return id
}

// reaches waits until exactly this orchestrator has an event.
func (f *fleet) reaches(id string, n int) {
	f.w.t.Helper()
	f.w.eventually(func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.received[id]) > 0
	}, "event %s reaches nobody", id)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Equal(f.w.t, map[protocol.OrchestratorID]bool{protocol.OrchestratorID(fmt.Sprintf("vp_%d", n)): true}, f.received[id])
}

// shown waits until Neolith shows so many orchestrators with a status.
func (f *fleet) shown(status string, want int) {
	f.w.t.Helper()
	conn := f.database.Connect(f.w.t)
	f.w.eventually(func() bool {
		var n int
		err := conn.QueryRow(f.w.ctx, `select count(*) from vps where status::text = $1`, status).Scan(&n)
		return err == nil && n == want
	}, "not %d orchestrators are %s", want, status)
}

// TestNeolithOnlyNoticesThatItGotBetter is a day in the life of Neolith beside
// the gateway, with its database and its Redis failing in turn.
func TestNeolithOnlyNoticesThatItGotBetter(t *testing.T) {
	t.Parallel()
	const orchestrators = 30
	database := testserver.OwnPostgres(t)
	database.NeolithTables(t)
	w := startWorld(t, with(map[string]string{"DATABASE_URL": database.URL(), "PRESENCE_GRACE": "1s"}))
	f := &fleet{w: w, database: database, received: make(map[string]map[protocol.OrchestratorID]bool)}
	var stops []func()
	for n := range orchestrators {
		f.join(n)
		stops = append(stops, f.connect(n))
	}
	f.shown("ONLINE", orchestrators)

	// Its message route names users, others name orchestrators.
	events := make(map[string]int)
	for n := range orchestrators {
		events[f.publish(fmt.Sprintf("user_%d", n))] = n
		events[f.publish(fmt.Sprintf("vp_%d", n))] = n
	}
	for id, n := range events {
		f.reaches(id, n)
	}

	// Without its database what is known goes on, and what is not known waits.
	database.Stop()
	for n := range orchestrators {
		f.reaches(f.publish(fmt.Sprintf("user_%d", n)), n)
	}
	newcomer := f.publish(fmt.Sprintf("user_%d", orchestrators))
	stops[0]()
	missed := f.publish("user_0")
	for _, node := range w.Nodes() {
		require.NoError(t, node.AwaitReady(w.ctx), "%s stays in service", node.Name())
	}
	database.Start()
	f.shown("AWAY", 1)
	f.join(orchestrators)
	stops = append(stops, f.connect(orchestrators))
	f.reaches(newcomer, orchestrators)
	stops[0] = f.connect(0)
	f.reaches(missed, 0)
	f.shown("ONLINE", orchestrators+1)

	// Without Redis nothing new is heard; afterwards all goes on.
	w.Redis.Kill()
	require.NoError(t, w.Redis.Start())
	require.NoError(t, w.AwaitReady(w.ctx))
	for n := range orchestrators {
		f.reaches(f.publish(fmt.Sprintf("user_%d", n)), n)
	}

	// An edge dies; its daemons are not shown as gone for longer than they are.
	w.Edges[0].Kill()
	f.reaches(f.publish("user_0"), 0)
	f.shown("ONLINE", orchestrators+1)
	require.NoError(t, w.Edges[0].Start())
	for _, stop := range stops {
		stop()
	}
	f.shown("AWAY", orchestrators+1)
}
