package postgres_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/settings"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const waitTime = testserver.Patience

// open returns a DB that runs for as long as the test.
func open(t *testing.T, url string) (*postgres.DB, *prometheus.Registry) {
	t.Helper()
	return openLogging(t, url, slog.DiscardHandler)
}

func openLogging(t *testing.T, url string, handler slog.Handler) (*postgres.DB, *prometheus.Registry) {
	t.Helper()
	db, reg := openOnly(t, url, handler)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- db.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return db, reg
}

func openOnly(t *testing.T, url string, handler slog.Handler) (*postgres.DB, *prometheus.Registry) {
	t.Helper()
	cfg := settings.Default[postgres.Config]()
	cfg.DatabaseURL = settings.URL(url)
	reg := prometheus.NewPedanticRegistry()
	db, err := postgres.Open(cfg, "test", slog.New(handler), reg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitTime)
		defer cancel()
		require.NoError(t, db.Close(ctx))
	})
	return db, reg
}

func awaitMigrated(t *testing.T, db *postgres.DB) {
	t.Helper()
	select {
	case <-db.Migrated():
	case <-time.After(waitTime):
		_, detail := db.Check()
		require.Fail(t, "the schema is not up to date", detail)
	}
}

func requireGauge(t *testing.T, reg *prometheus.Registry, name string, value float64) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			require.Equal(t, value, family.GetMetric()[0].GetGauge().GetValue(), name)
			return
		}
	}
	require.Fail(t, "no metric "+name)
}

func TestADatabaseGetsTheGatewaysSchema(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	db, reg := open(t, server.URL())
	awaitMigrated(t, db)
	require.Eventually(t, func() bool { ok, _ := db.Check(); return ok }, waitTime, 10*time.Millisecond)
	requireGauge(t, reg, "gateway_postgres_up", 1)
	requireGauge(t, reg, "gateway_postgres_schema_ready", 1)
	requireGauge(t, reg, "gateway_postgres_connections_limit", 10)
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
	server.Execute(t, "select from daemon_gateway.sessions")
}

// failing fails the test with what is written to it.
type failing struct{ t *testing.T }

func (f failing) Write(line []byte) (int, error) {
	f.t.Errorf("%s", line)
	return len(line), nil
}

func TestNodesThatStartTogetherMigrateOnce(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	const nodes = 8
	noErrors := slog.NewTextHandler(failing{t}, &slog.HandlerOptions{Level: slog.LevelError})
	var dbs []*postgres.DB
	for range nodes {
		db, _ := openLogging(t, server.URL(), noErrors)
		dbs = append(dbs, db)
	}
	for _, db := range dbs {
		awaitMigrated(t, db)
	}

	var once bool
	require.NoError(t, server.Connect(t).QueryRow(t.Context(),
		"select count(*) = count(distinct version_id) and max(version_id) > 0 from daemon_gateway.migrations").Scan(&once))
	require.True(t, once)
}

func TestANodeStartsOnASchemaThatANewerVersionHasMigrated(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	first, _ := open(t, server.URL())
	awaitMigrated(t, first)
	server.Execute(t, "insert into daemon_gateway.migrations (version_id, is_applied) values (1000, true)")
	older, _ := open(t, server.URL())
	awaitMigrated(t, older)
}

func TestAnAdministratorMayHaveCreatedTheSchema(t *testing.T) {
	t.Parallel()
	server := testserver.OwnPostgres(t)
	server.Execute(t, "create role app login; create schema daemon_gateway authorization app")
	db, _ := open(t, asUser(t, server.URL(), "app"))
	awaitMigrated(t, db)
}

func TestWithoutTheRightToMigrateANodeSaysSoAndGoesOnTrying(t *testing.T) {
	t.Parallel()
	server := testserver.OwnPostgres(t)
	server.Execute(t, "create role app login")
	db, _ := open(t, asUser(t, server.URL(), "app"))
	require.Eventually(t, func() bool {
		ok, detail := db.Check()
		return !ok && containsAll(detail, "schema daemon_gateway", "permission denied")
	}, waitTime, 10*time.Millisecond)
	require.Eventually(t, db.Up, waitTime, 10*time.Millisecond)
	server.Execute(t, "create schema daemon_gateway authorization app")
	awaitMigrated(t, db)
}

func TestANodeStartsWithoutPostgresAndCatchesUp(t *testing.T) {
	t.Parallel()
	server := testserver.OwnPostgres(t)
	server.Stop()
	db, reg := open(t, server.URL())
	require.Eventually(t, func() bool {
		ok, detail := db.Check()
		return !ok && containsAll(detail, "away", "refused")
	}, waitTime, 10*time.Millisecond)
	requireGauge(t, reg, "gateway_postgres_up", 0)
	server.Start()
	awaitMigrated(t, db)
	require.Eventually(t, db.Up, waitTime, 10*time.Millisecond)
}

func TestANodeNoticesThatPostgresHangsAndThatItIsBack(t *testing.T) {
	t.Parallel()
	server := testserver.OwnPostgres(t)
	db, _ := open(t, server.URL())
	awaitMigrated(t, db)
	server.Pause()
	require.Eventually(t, func() bool { return !db.Up() }, waitTime, 10*time.Millisecond)
	server.Resume()
	require.Eventually(t, db.Up, waitTime, 10*time.Millisecond)
}

// Three server connections for many at once, none of which is the same for two
// transactions: what was prepared, locked or set on one would be missing or in
// the way on another.
// Reports: jackc/pgx#344, pgbouncer/pgbouncer#1067, pgbouncer/pgbouncer#1074,
// goauthentik/authentik#19939, neondatabase/neon#6291.
func TestPgBouncerInTransactionModeMayStandBetween(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	server.NeolithTables(t)
	server.AddOrchestrators(t, testserver.Orchestrator{ID: "vp", User: "user"})
	bouncer := testserver.PgBouncer(t, server, 3)
	for range 3 {
		db, _ := open(t, bouncer+"&pgbouncer=true&connection_limit=1&schema=public")
		awaitMigrated(t, db)
		work, ctx := errgroup.WithContext(t.Context())
		for range 20 {
			work.Go(func() error { return useManyWays(ctx, db) })
		}
		require.NoError(t, work.Wait())
	}
}

// useManyWays does what the gateway does with the database: queries with
// arrays, updates of an enum, a COPY within a transaction.
func useManyWays(ctx context.Context, db *postgres.DB) error {
	var found int
	err := db.Pool.QueryRow(ctx, "select count(*) from "+db.Neolith("vps")+" where id = any($1)", []string{"vp", "none"}).Scan(&found)
	if err != nil {
		return err
	}
	_, err = db.Pool.Exec(ctx, `update `+db.Neolith("vps")+` v set status = given.status::"VPStatus", updated_at = given.at
		from unnest($1::text[], $2::text[], $3::timestamptz[]) as given (id, status, at) where v.id = given.id`,
		[]string{"vp"}, []string{"ONLINE"}, []time.Time{time.Now()})
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "create temporary table copied (like daemon_gateway.sessions) on commit drop"); err != nil {
			return err
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"session_id", "orchestrator_id", "daemon_id", "edge", "connected_at", "sent", "acked", "redelivered"},
			pgx.CopyFromRows([][]any{{"6f9619ff-8b86-d011-b42d-00c04fc964ff", "vp", "daemon", "edge", time.Now(), 1, 1, 0}}))
		return err
	})
}

func TestClosingIsBoundedWhileAConnectionIsInUse(t *testing.T) {
	t.Parallel()
	db, _ := openOnly(t, testserver.Postgres(t).URL(), slog.DiscardHandler)
	conn, err := db.Pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, db.Close(ctx), context.Canceled)
}
