package testserver_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }

func TestEveryTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	for range 2 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			db := testserver.Postgres(t)
			db.NeolithTables(t)
			db.AddOrchestrators(t, testserver.Orchestrator{ID: "vp", User: "user"})
			var status string
			require.NoError(t, db.Connect(t).QueryRow(t.Context(), "select status from vps where user_id = 'user'").Scan(&status))
			require.Equal(t, "AWAY", status)
		})
	}
}

func TestPostgresKeepsPortAndDataOverStopAndStart(t *testing.T) {
	t.Parallel()
	s := testserver.OwnPostgres(t)
	s.Execute(t, "create table kept ()")
	s.Stop()
	_, err := pgx.Connect(t.Context(), s.URL())
	require.Error(t, err)
	s.Start()
	s.Execute(t, "select from kept")
}

func TestPausedPostgresAnswersNothingUntilItIsResumed(t *testing.T) {
	t.Parallel()
	s := testserver.OwnPostgres(t)
	conn := s.Connect(t)
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, conn.Ping(ctx), context.DeadlineExceeded)
	_, err := pgx.Connect(ctx, s.URL())
	require.Error(t, err)
	s.Resume()
	s.Execute(t, "select 1")
}

func TestPgBouncerSharesItsConnectionsBetweenTransactions(t *testing.T) {
	t.Parallel()
	db := testserver.Postgres(t)
	url := testserver.PgBouncer(t, db, 1)
	backends := map[int]bool{}
	for range 3 {
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		var pid int
		require.NoError(t, conn.QueryRow(t.Context(), "select pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid))
		backends[pid] = true
	}
	require.Len(t, backends, 1)
}
