package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

// After a failover connections stay on the old primary, which answers everything
// and writes nothing: presence and history failed until they were 30 minutes old.
// Reports: gpustack/gpustack#6105, npgsql/efcore.pg#1306.
func TestConnectionsThatAnswerAndCannotWriteAreGivenUp(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	db, _ := open(t, server.URL())
	require.Eventually(t, db.Up, waitTime, time.Millisecond)
	server.Execute(t, `create table written (n integer)`)
	var pooled []*pgxpool.Conn
	for range 5 {
		conn, err := db.Pool.Acquire(t.Context())
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), `set default_transaction_read_only = on`)
		require.NoError(t, err)
		pooled = append(pooled, conn)
	}
	for _, conn := range pooled {
		conn.Release()
	}
	failures := 0
	require.Eventually(t, func() bool {
		_, err := db.Pool.Exec(t.Context(), `insert into written values (1)`)
		if err != nil {
			failures++
		}
		return err == nil
	}, waitTime, time.Millisecond)
	require.LessOrEqual(t, failures, 1, "one shows what the others are like")
}

func TestAServerThatCannotBeWrittenToIsNotThere(t *testing.T) {
	t.Parallel()
	server := testserver.OwnPostgres(t)
	db, _ := open(t, server.URL())
	anyServer, _ := open(t, server.URL()+separator(server.URL())+"target_session_attrs=any")
	require.Eventually(t, db.Up, waitTime, time.Millisecond)
	turn := func(mode string) {
		server.Execute(t, `alter system set default_transaction_read_only = `+mode)
		server.Execute(t, `select pg_reload_conf()`)
	}
	turn("on")
	require.Eventually(t, func() bool {
		ok, detail := db.Check()
		return !ok && (strings.Contains(detail, "read-only") || strings.Contains(detail, "read only"))
	}, waitTime, time.Millisecond, "/readyz tells the truth")
	require.True(t, anyServer.Up(), "who says that any will do is not refused one")
	turn("off")
	require.Eventually(t, db.Up, waitTime, time.Millisecond)
	_, err := db.Pool.Exec(t.Context(), `create table written (n integer)`)
	require.NoError(t, err)
}

func separator(url string) string {
	if strings.Contains(url, "?") {
		return "&"
	}
	return "?"
}
