package edge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// onDatabase is the setting of edges that look orchestrators up.
func onDatabase(url string, change ...func(*DatabaseConfig)) func(*Config) {
	return func(cfg *Config) {
		cfg.Database.Postgres.DatabaseURL = settings.URL(url)
		for _, f := range change {
			f(&cfg.Database)
		}
	}
}

func onlyCached(cfg *DatabaseConfig) { cfg.IdentityFallback = FallbackCached }

// neolith returns Neolith's database with one orchestrator, vp-1 of user-1.
func neolith(t *testing.T) *testserver.Database {
	t.Helper()
	db := testserver.Postgres(t)
	db.NeolithTables(t)
	db.AddOrchestrators(t, testserver.Orchestrator{ID: "vp-1", User: "user-1", Organization: "acme"})
	return db
}

func ownNeolith(t *testing.T) *testserver.PostgresServer {
	t.Helper()
	db := testserver.OwnPostgres(t)
	db.NeolithTables(t)
	db.AddOrchestrators(t,
		testserver.Orchestrator{ID: "vp-1", User: "user-1", Organization: "acme"},
		testserver.Orchestrator{ID: "vp-2", User: "user-2", Organization: "acme"})
	return db
}

// check is one of the checks that /readyz shows.
func (n *node) check(name string) (found struct{ Ready, Advisory bool }) {
	n.t.Helper()
	res, err := http.Get("http://" + n.AdminAddr().String() + "/readyz")
	require.NoError(n.t, err)
	defer func() { _ = res.Body.Close() }()
	var body struct {
		Checks map[string]struct{ Ready, Advisory bool }
	}
	require.NoError(n.t, json.NewDecoder(res.Body).Decode(&body))
	return body.Checks[name]
}

// refused tries to log in and returns the code of the auth_error.
func (n *node) refused(orchestrator, daemon string) string {
	n.t.Helper()
	c := n.dial()
	c.send("auth", authPayload(n.t, orchestrator, daemon))
	code := c.expect(protocol.TypeAuthError).text("code")
	c.expectClose(protocol.CloseAuthFailed)
	return code
}

func TestATokenMayNameTheOrchestratorOrItsUser(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(onDatabase(neolith(t).URL()))
	byID := n.attach("vp-1", "a", everything)
	byUser := n.attach("user-1", "b", everything)
	require.Len(t, n.directory.Holdings(event.TokenOf("vp-1")), 2)
	require.Empty(t, n.directory.Holdings(event.TokenOf("user-1")))
	s := c.publish("vp-1")
	c.forward(n, s, 0)
	for _, d := range []*client{byID, byUser} {
		require.Equal(t, s.id, d.expect(protocol.TypeEvent).text("eventId"))
	}
	require.Eventually(t, func() bool { return n.check("postgres") == struct{ Ready, Advisory bool }{true, true} },
		testserver.Patience, 10*time.Millisecond)
}

func TestAnUnknownOrchestratorIsRefusedUntilItExists(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	db := neolith(t)
	n := c.edge(onDatabase(db.URL()))
	require.Equal(t, string(protocol.AuthFailed), n.refused("vp-new", "daemon"))
	n.eventuallyMetric(`gateway_edge_auth_failures_total{reason="unknown_identity"}`, "1")
	db.AddOrchestrators(t, testserver.Orchestrator{ID: "vp-new", User: "user-new"})
	require.Eventually(t, func() bool {
		d := n.dial()
		d.send("auth", authPayload(t, "vp-new", "daemon"))
		m, err := d.read()
		require.NoError(t, err)
		return m.Type == protocol.TypeAuthSuccess
	}, testserver.Patience, 100*time.Millisecond)
}

// While PostgreSQL was slow, daemons with good tokens were closed for others that
// had not shown any.
func TestWhoseTokenIsGoodKeepsTheirConnectionWhilePostgresIsSlow(t *testing.T) {
	t.Parallel()
	db := neolith(t)
	n := newCluster(t).edge(onDatabase(db.URL(), func(cfg *DatabaseConfig) { cfg.Identity.QueryTimeout = 2 * testserver.Patience }),
		func(cfg *Config) { cfg.Listen.Access.MaxUnauthenticated = 1 })
	lock := db.Connect(t)
	_, err := lock.Exec(t.Context(), `begin; lock table vps in access exclusive mode`)
	require.NoError(t, err)
	d := n.dial()
	d.send("auth", authPayload(t, "vp-1", "daemon"))
	require.Eventually(t, func() bool { return n.door.access.Waiting() == 0 }, testserver.Patience, time.Millisecond)
	n.knock("")
	n.knock("")
	_, err = lock.Exec(t.Context(), `rollback`)
	require.NoError(t, err)
	d.expect(protocol.TypeAuthSuccess)
}

// A daemon that shows a fresh token again and again would stay for ever.
func TestWhoExtendsASessionMustStillExist(t *testing.T) {
	t.Parallel()
	db := neolith(t)
	n := newCluster(t).edge(onDatabase(db.URL(), func(cfg *DatabaseConfig) { cfg.Identity.IdentityCacheTTL = time.Millisecond }))
	d := n.login("user-1", "daemon")
	d.send("auth", authPayload(t, "user-1", "daemon"))
	d.expect(protocol.TypeAuthSuccess)
	db.Execute(t, `delete from vps where id = 'vp-1'`)
	d.send("auth", authPayload(t, "user-1", "daemon"))
	require.Equal(t, "the orchestrator does not exist", d.expect(protocol.TypeAuthError).text("message"))
	d.expectClose(protocol.CloseAuthFailed)
}

// PostgreSQL that is away is no fault of the daemon's.
func TestWithoutPostgresASessionIsExtended(t *testing.T) {
	t.Parallel()
	db := ownNeolith(t)
	n := newCluster(t).edge(onDatabase(db.URL(), func(cfg *DatabaseConfig) { cfg.Identity.IdentityCacheTTL = time.Millisecond }))
	d := n.login("user-1", "daemon")
	db.Stop()
	d.send("auth", authPayload(t, "user-1", "daemon"))
	d.expect(protocol.TypeAuthSuccess)
	d.send("heartbeat", `{}`)
	d.expect(protocol.TypeHeartbeatAck)
}

func TestTheConnectionLimitCountsBothIDsOfAnOrchestratorTogether(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(onDatabase(neolith(t).URL()), func(cfg *Config) { cfg.Sockets.WSMaxConnectionsPerVP = 2 })
	n.login("vp-1", "a").alive()
	n.login("user-1", "b").alive()
	for _, id := range []string{"vp-1", "user-1"} {
		refused := n.dial()
		refused.send("auth", authPayload(t, id, "c"))
		require.Equal(t, string(protocol.AuthMaxConnections), refused.expect(protocol.TypeAuthError).text("code"))
	}
}

func TestADaemonContinuesUnderEitherID(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(onDatabase(neolith(t).URL()))
	first, second := c.publish("vp-1"), c.publish("vp-1")
	d := n.attach("user-1", "daemon", everything)
	require.Equal(t, first.id, d.expect(protocol.TypeEvent).text("eventId"))
	require.Equal(t, second.id, d.expect(protocol.TypeEvent).text("eventId"))
	d.ack(first)
	d.leave(n)
	again := n.login("vp-1", "daemon")
	again.send("subscribe", `{"eventTypes":["*"]}`)
	require.Equal(t, true, again.expect(protocol.TypeSubscribed).Payload["resumed"])
	m := again.expect(protocol.TypeEvent)
	require.Equal(t, second.id, m.text("eventId"), "what was acknowledged under the other id does not come again")
	require.Equal(t, true, m.Payload["redelivered"])
}

func TestWithoutPostgresATokenIsEnoughUntilItCanBeAsked(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	db := ownNeolith(t)
	db.Stop()
	n := c.edge(onDatabase(db.URL()))
	require.Equal(t, struct{ Ready, Advisory bool }{false, true}, n.check("postgres"), "and the edge is ready all the same")
	right := n.attach("vp-1", "a", everything)
	s := c.publish("vp-1")
	c.forward(n, s, 0)
	require.Equal(t, s.id, right.expect(protocol.TypeEvent).text("eventId"))
	user, nobody := n.login("user-2", "a"), n.login("nobody", "a")
	n.eventuallyMetric("gateway_edge_unconfirmed_connections", "3")

	db.Start()
	require.Equal(t, string(protocol.AuthFailed), nobody.expect(protocol.TypeAuthError).text("code"))
	nobody.expectClose(protocol.CloseAuthFailed)
	require.Equal(t, "identity", user.expect(protocol.TypeReconnect).text("reason"))
	require.NoError(t, user.conn.CloseNow())
	n.eventuallyMetric("gateway_edge_unconfirmed_connections", "0")
	n.login("user-2", "a")
	n.knows("vp-2", 1)
	n.knows("user-2", 0)
	next := c.publish("vp-1")
	c.forward(n, next, s.sequence)
	require.Equal(t, next.id, right.expect(protocol.TypeEvent).text("eventId"), "who gave the canonical id notices nothing")
}

func TestWhoStaysUnderAnotherIDIsClosed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	db := ownNeolith(t)
	db.Stop()
	n := c.edge(onDatabase(db.URL()))
	d := n.login("user-1", "a")
	db.Start()
	d.expect(protocol.TypeReconnect)
	n.registrar.recheck(t.Context(), time.Now().Add(recheckSpread+recheckPatience+time.Second))
	d.expectClose(protocol.CloseGoingAway)
}

func TestWithoutPostgresOnlyThoseRememberedAreAdmittedIfSoConfigured(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	db := ownNeolith(t)
	n := c.edge(onDatabase(db.URL(), onlyCached))
	n.login("user-1", "a")
	db.Stop()
	n.login("user-1", "b")
	n.knows("vp-1", 2)
	newcomer := n.dial()
	newcomer.send("auth", authPayload(t, "vp-2", "a"))
	require.GreaterOrEqual(t, newcomer.expect(protocol.TypeReconnect).Payload["delay"], float64(unavailableDelay.Milliseconds()))
	newcomer.expectClose(protocol.CloseGoingAway)
	n.eventuallyMetric(`gateway_edge_auth_failures_total{reason="identity_unverified"}`, "1")
	n.eventuallyMetric("gateway_edge_unconfirmed_connections", "0")
	require.Equal(t, http.StatusOK, n.ready())

	db.Start()
	require.Eventually(t, func() bool {
		d := n.dial()
		d.send("auth", authPayload(t, "vp-2", "a"))
		m, err := d.read()
		require.NoError(t, err)
		return m.Type == protocol.TypeAuthSuccess
	}, testserver.Patience, 50*time.Millisecond)
}

func TestManyThatComeAtOnceAreLookedUpTogether(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	db := neolith(t)
	const daemons = 300
	many := make([]testserver.Orchestrator, daemons)
	for i := range many {
		many[i] = testserver.Orchestrator{ID: fmt.Sprintf("many-%d", i), User: fmt.Sprintf("many-user-%d", i)}
	}
	db.AddOrchestrators(t, many...)
	n := c.edge(onDatabase(db.URL()), func(cfg *Config) { cfg.Listen.RateConnectsPerIP = 1000 })
	waiting := make([]*client, daemons)
	for i := range waiting {
		waiting[i] = n.dial()
	}
	var all errgroup.Group
	for i, d := range waiting {
		all.Go(func() error {
			d.send("auth", authPayload(t, fmt.Sprintf("many-%d", i), "daemon"))
			m, err := d.read()
			if err == nil && m.Type != protocol.TypeAuthSuccess {
				err = fmt.Errorf("got %s", m.Raw)
			}
			return err
		})
	}
	require.NoError(t, all.Wait())
	n.eventuallyMetric("gateway_identity_batch_size_sum", fmt.Sprint(daemons))
	var queries int
	_, err := fmt.Sscan(n.metric("gateway_identity_batch_size_count"), &queries)
	require.NoError(t, err)
	require.Less(t, queries, daemons, "some are looked up together, however slowly they come")
}
