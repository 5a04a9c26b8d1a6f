package history

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestMain(m *testing.M) { testserver.Main(m) }

// patience is how long a condition may take; it is waited out only in failure.
const patience = testserver.Patience

var connectedAt = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// begun is a session that has been admitted.
func begun(orchestrator protocol.OrchestratorID) Session {
	return Session{
		ID: protocol.SessionID(uuid.NewString()), Orchestrator: orchestrator, Daemon: "daemon",
		RemoteAddress: netip.MustParseAddr("::ffff:192.0.2.7"),
		Connected:     connectedAt, Authenticated: connectedAt.Add(time.Second),
	}
}

// over is the session after its end.
func (s Session) over() Session {
	s.Subscribed, s.Ended = connectedAt.Add(2*time.Second), connectedAt.Add(time.Hour)
	s.CloseCode, s.CloseReason = 4006, "missed heartbeats"
	s.Sent, s.Acked, s.Redelivered = 10, 8, 2
	return s
}

// edge is a recorder on a connection pool of its own.
type edge struct {
	*Recorder
	t   testing.TB
	db  *postgres.DB
	reg *prometheus.Registry
}

// newEdge returns an edge whose database is looked for until the test ends; its
// recorder does not run.
func newEdge(t testing.TB, url, name string) *edge {
	t.Helper()
	cfg := settings.Default[postgres.Config]()
	cfg.DatabaseURL = settings.URL(url)
	e := &edge{t: t, reg: prometheus.NewPedanticRegistry()}
	logger := slog.New(slog.DiscardHandler)
	var err error
	e.db, err = postgres.Open(cfg, "test", logger, prometheus.NewRegistry())
	require.NoError(t, err)
	e.Recorder = New(settings.Default[Config](), e.db, name, logger, e.reg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.db.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		closing, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, e.db.Close(closing))
	})
	return e
}

// migrated waits until the edge may write.
func (e *edge) migrated() *edge {
	e.t.Helper()
	select {
	case <-e.db.Migrated():
	case <-time.After(patience):
		_, detail := e.db.Check()
		require.Fail(e.t, "the schema is not up to date", detail)
	}
	return e
}

// run has the recorder run until the test ends.
func (e *edge) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	e.t.Cleanup(func() {
		cancel()
		require.NoError(e.t, <-ended)
	})
}

func (e *edge) flush() {
	e.t.Helper()
	require.NoError(e.t, e.Flush(e.t.Context()))
}

// row is a row of sessions.
type row struct {
	Session
	Edge  string
	Code  *int
	State string
}

// rows returns what is recorded of an orchestrator, the last first, as those who
// support users find it.
func rows(t testing.TB, conn *pgx.Conn, orchestrator string) []row {
	t.Helper()
	found, err := conn.Query(context.Background(), `select session_id::text, orchestrator_id, daemon_id, edge, state, remote_address,
			connected_at, authenticated_at, subscribed_at, ended_at, close_code, coalesce(close_reason, ''), sent, acked, redelivered
		from daemon_gateway.session_overview where orchestrator_id = $1 order by connected_at desc limit 20`, orchestrator)
	require.NoError(t, err)
	all, err := pgx.CollectRows(found, func(r pgx.CollectableRow) (v row, err error) {
		var times [4]*time.Time
		var id, orchestrator, daemon string
		err = r.Scan(&id, &orchestrator, &daemon, &v.Edge, &v.State, &v.RemoteAddress,
			&times[0], &times[1], &times[2], &times[3], &v.Code, &v.CloseReason, &v.Sent, &v.Acked, &v.Redelivered)
		v.ID, v.Orchestrator, v.Daemon = protocol.SessionID(id), protocol.OrchestratorID(orchestrator), protocol.DaemonID(daemon)
		for i, field := range []*time.Time{&v.Connected, &v.Authenticated, &v.Subscribed, &v.Ended} {
			if times[i] != nil {
				*field = times[i].UTC()
			}
		}
		if v.Code != nil {
			v.CloseCode = *v.Code
		}
		return v, err
	})
	require.NoError(t, err)
	return all
}

// stored is the session as it comes back.
func stored(s Session) Session {
	s.RemoteAddress = s.RemoteAddress.Unmap()
	return s
}

func count(t testing.TB, conn *pgx.Conn, condition string) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(context.Background(), "select count(*) from daemon_gateway.sessions where "+condition).Scan(&n))
	return n
}
