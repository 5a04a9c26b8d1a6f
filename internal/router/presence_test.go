package router

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/neolith/presence"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestPresenceAndDeliveryDoNotDependOnEachOther(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	database := testserver.OwnPostgres(t)
	database.NeolithTables(t)
	database.AddOrchestrators(t, testserver.Orchestrator{ID: "alpha", User: "a"}, testserver.Orchestrator{ID: "beta", User: "b"})
	e := c.edge("edge")
	withDatabase := func(cfg *Config) { cfg.Postgres.DatabaseURL = settings.URL(database.URL()) }
	routers := []*running{c.router("one", withDatabase), c.router("two", withDatabase)}
	shown := database.Connect(t)
	await := func(o event.Token, want presence.Status) {
		require.Eventually(t, func() bool {
			var status string
			err := shown.QueryRow(context.Background(), `select status::text from vps where id = $1`, string(o)).Scan(&status)
			return err == nil && status == string(want)
		}, patience, moment, "%s is never shown as %s", o, want)
	}
	e.claim("alpha")
	e.claim("beta")
	await("alpha", presence.Online)
	await("beta", presence.Online)
	c.known(routers[0], "alpha", "beta")
	c.known(routers[1], "alpha", "beta")

	for _, r := range routers {
		require.Eventually(t, func() bool {
			up, _ := r.database.Check()
			return up
		}, patience, moment)
	}
	database.Stop()
	for _, r := range routers {
		require.Eventually(t, func() bool {
			up, _ := r.database.Check()
			return !up
		}, patience, moment)
		status, body := get(t, r, "/readyz")
		require.Equal(t, 200, status, body)
		require.Contains(t, body, `"postgres":{"ready":false,"detail":"away`)
	}
	c.reached(e, "alpha", c.publish("alpha"))
}
