package history

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const addOld = `insert into daemon_gateway.sessions (session_id, orchestrator_id, daemon_id, edge, connected_at)
	select gen_random_uuid(), 'old', 'daemon', 'edge-1', now() - interval '31 days' from generate_series(1, $1)`

func TestSessionsOverTheRetentionAreDeletedInSmallSteps(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	conn := server.Connect(t)
	e := newEdge(t, server.URL(), "edge-1").migrated()
	server.Execute(t, addOld, 2*stepRows+10)
	young := begun("young")
	young.Connected = time.Now().Add(-29 * 24 * time.Hour)
	e.Record(young)
	e.flush()
	for _, left := range []int{stepRows + 10, 10, 0} {
		deleted, _, err := e.store.cleanSome(t.Context(), 0)
		require.NoError(t, err)
		require.Equal(t, left == 0, deleted < stepRows)
		require.Equal(t, left, count(t, conn, "orchestrator_id = 'old'"))
	}
	require.Len(t, rows(t, conn, "young"), 1)

	// One that is still there and was deleted comes back with its end.
	server.Execute(t, "delete from daemon_gateway.sessions")
	young.Ended = time.Now()
	e.Record(young)
	e.flush()
	require.Len(t, rows(t, conn, "young"), 1)
}

func TestOneNodeAtATimeCleansAndNotTooOften(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	conn := server.Connect(t)
	const nodes = 4
	var edges []*edge
	for range nodes {
		edges = append(edges, newEdge(t, server.URL(), "edge").migrated())
	}
	server.Execute(t, addOld, nodes*stepRows)
	var steps atomic.Int64
	var work errgroup.Group
	for _, e := range edges {
		work.Go(func() error {
			deleted, _, err := e.store.cleanSome(t.Context(), time.Hour)
			if deleted > 0 {
				steps.Add(1)
			}
			return err
		})
	}
	require.NoError(t, work.Wait())
	require.EqualValues(t, 1, steps.Load())
	require.Equal(t, (nodes-1)*stepRows, count(t, conn, "orchestrator_id = 'old'"))
}

func TestARecorderCleansByItself(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	e := newEdge(t, server.URL(), "edge-1").migrated()
	server.Execute(t, addOld, stepRows+1)
	e.run()
	require.Eventually(t, func() bool { return testutil.ToFloat64(e.metrics.deleted) == stepRows+1 }, patience, 10*time.Millisecond)
}

func TestSessionsOfAnEdgeThatDoesNotComeBackAreEnded(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	conn := server.Connect(t)
	lost, there := newEdge(t, server.URL(), "lost").migrated(), newEdge(t, server.URL(), "there").migrated()
	var lostSession protocol.SessionID
	for _, e := range []*edge{there, lost} {
		s := begun("vp-vp")
		lostSession = s.ID
		s.Connected, s.Authenticated = time.Now().Add(-3*time.Hour), time.Time{}
		e.Record(s)
		e.flush()
	}
	seen := time.Now().Add(-2 * time.Hour).UTC().Truncate(time.Millisecond)
	require.NoError(t, lost.store.seen(t.Context(), seen))
	states := func() map[string]string {
		states := map[string]string{}
		for _, r := range rows(t, conn, "vp-vp") {
			states[r.Edge] = r.State
		}
		return states
	}
	require.Equal(t, map[string]string{"lost": "unknown", "there": "open"}, states())
	_, ended, err := there.store.cleanSome(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, 1, ended)
	require.Equal(t, map[string]string{"lost": "ended", "there": "open"}, states())
	for _, r := range rows(t, conn, "vp-vp") {
		if r.Edge == "lost" {
			require.Equal(t, "edge lost", r.CloseReason)
			require.Equal(t, seen, r.Ended)
		}
	}
	back := begun("vp-vp")
	back.ID, back.Ended = lostSession, time.Now()
	lost.Record(back)
	lost.flush()
	require.Equal(t, 1, count(t, conn, "close_reason = ''"), "if it was there after all, its own end counts")
	var edges []string
	require.NoError(t, conn.QueryRow(t.Context(), "select array_agg(edge) from daemon_gateway.edges").Scan(&edges))
	require.Equal(t, []string{"there"}, edges)
}
