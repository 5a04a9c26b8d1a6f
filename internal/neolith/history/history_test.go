package history

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestASessionIsOneRowFromItsBeginToItsEnd(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	e := newEdge(t, server.URL(), "edge-1").migrated()
	conn := server.Connect(t)
	s := begun("vp")
	e.Record(s)
	e.flush()
	found := rows(t, conn, "vp")
	require.Len(t, found, 1)
	require.Equal(t, stored(s), found[0].Session)
	require.Equal(t, "edge-1", found[0].Edge)
	require.Equal(t, "open", found[0].State)
	require.Nil(t, found[0].Code)

	e.Record(s.over())
	e.flush()
	found = rows(t, conn, "vp")
	require.Len(t, found, 1)
	require.Equal(t, stored(s.over()), found[0].Session)
	require.Equal(t, "ended", found[0].State)
	problems, err := testutil.GatherAndLint(e.reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestASessionThatHasEndedBeforeItsFirstWrite(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	e := newEdge(t, server.URL(), "edge-1").migrated()
	s := begun("vp")
	s.RemoteAddress = netip.Addr{}
	e.Record(s)
	e.Record(s.over())
	e.flush()
	require.Equal(t, float64(1), testutil.ToFloat64(e.metrics.written))
	found := rows(t, server.Connect(t), "vp")
	require.Len(t, found, 1)
	require.Equal(t, s.over(), found[0].Session)
}

func TestTheLastSessionsOfAnOrchestrator(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	e := newEdge(t, server.URL(), "edge-1").migrated()
	for i := range 30 {
		s := begun("vp")
		s.Connected = connectedAt.Add(time.Duration(i) * time.Minute)
		e.Record(s)
		e.Record(begun("other"))
	}
	e.flush()
	found := rows(t, server.Connect(t), "vp")
	require.Len(t, found, 20)
	for i, r := range found {
		require.Equal(t, connectedAt.Add(time.Duration(29-i)*time.Minute), r.Connected)
	}
}

// TestWhatDaemonsMaySayFits: one such text would make every batch fail.
// Reports: JSONbored/loopover#6728, apache/devlake#3564.
func TestWhatDaemonsMaySayFits(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	e := newEdge(t, server.URL(), "edge-1").migrated()
	s := begun("vp").over()
	s.Daemon, s.CloseReason = "a\x00b", "not UTF-8: \xff"
	s.RemoteAddress = netip.MustParseAddr("fe80::1%eth0")
	e.Record(s)
	e.flush()
	found := rows(t, server.Connect(t), "vp")[0]
	require.Equal(t, protocol.DaemonID("a\uFFFDb"), found.Daemon)
	require.Equal(t, "not UTF-8: \uFFFD", found.CloseReason)
	require.Equal(t, netip.MustParseAddr("fe80::1"), found.RemoteAddress)
}

func TestALateWriteDoesNotOpenASessionAgain(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	e := newEdge(t, server.URL(), "edge-1").migrated()
	s := begun("vp")
	for _, state := range []Session{s.over(), s, s.over()} {
		require.NoError(t, e.store.write(t.Context(), []*entry{{Value: state}}))
		require.Equal(t, stored(s.over()), rows(t, server.Connect(t), "vp")[0].Session)
	}
}

func TestWhatACrashedProcessLeftOpenIsEnded(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	conn := server.Connect(t)
	other := newEdge(t, server.URL(), "edge-2").migrated()
	other.Record(begun("elsewhere"))
	other.flush()
	before := newEdge(t, server.URL(), "edge-1").migrated()
	for range stepRows + 5 {
		before.Record(begun("left open"))
	}
	before.Record(begun("ended").over())
	young := begun("young")
	young.Connected = time.Now().UTC().Truncate(time.Millisecond)
	before.Record(young)
	before.flush()
	seen := young.Connected.Add(-time.Minute)
	require.NoError(t, before.store.seen(t.Context(), seen))

	after := newEdge(t, server.URL(), "edge-1").migrated()
	after.Record(begun("now"))
	after.flush()
	require.Equal(t, stepRows+5, count(t, conn, "orchestrator_id = 'left open' and close_reason = 'edge crashed'"))
	left := rows(t, conn, "left open")[0]
	require.Equal(t, seen, left.Ended, "as of when it was seen last")
	require.Nil(t, left.Code)
	require.Equal(t, young.Connected, rows(t, conn, "young")[0].Ended, "not before it began")
	require.Equal(t, "missed heartbeats", rows(t, conn, "ended")[0].CloseReason)
	require.Zero(t, rows(t, conn, "elsewhere")[0].Ended)
	require.Zero(t, rows(t, conn, "now")[0].Ended)
}

func TestWhatWaitsWhilePostgresIsAwayIsWrittenAfterwards(t *testing.T) {
	t.Parallel()
	server := testserver.OwnPostgres(t)
	server.Stop() // at the start already
	e := newEdge(t, server.URL(), "edge-1")
	e.run()
	s := begun("vp")
	e.Record(s)
	require.Error(t, e.Flush(t.Context()))
	server.Start()
	e.migrated()
	require.Eventually(t, func() bool { return e.waiting.Len() == 0 }, patience, 10*time.Millisecond)

	server.Stop()
	e.Record(s.over())
	require.Error(t, e.Flush(t.Context()))
	require.Positive(t, testutil.ToFloat64(e.metrics.errors))
	server.Start()
	require.Eventually(t, func() bool { return e.waiting.Len() == 0 }, patience, 10*time.Millisecond)
	found := rows(t, server.Connect(t), "vp")
	require.Len(t, found, 1)
	require.Equal(t, stored(s.over()), found[0].Session)
}

func TestNobodyWaitsForAPostgresThatHangs(t *testing.T) {
	t.Parallel()
	server := testserver.OwnPostgres(t)
	e := newEdge(t, server.URL(), "edge-1").migrated()
	e.flush()
	server.Pause()
	e.Record(begun("vp"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	hanging := make(chan error, 1)
	go func() { hanging <- e.Flush(t.Context()) }()
	require.Eventually(t, func() bool { return len(e.turn) == 1 }, patience, time.Millisecond)
	require.ErrorIs(t, e.Flush(ctx), context.DeadlineExceeded, "a second one waits for its turn no longer than it may")
	for range 1_000 {
		e.Record(begun("vp"))
	}
	require.ErrorIs(t, <-hanging, context.DeadlineExceeded)
	server.Resume()
	require.Eventually(t, func() bool { return e.Flush(t.Context()) == nil }, patience, 10*time.Millisecond)
	require.Equal(t, 1_001, count(t, server.Connect(t), "orchestrator_id = 'vp'"))
}

func TestOverTheBoundTheOldestSessionsAreForgotten(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	e := newEdge(t, server.URL(), "edge-1")
	first := begun("first")
	e.Record(first)
	for testutil.ToFloat64(e.metrics.dropped) == 0 {
		e.Record(begun("vp"))
	}
	require.Greater(t, e.waiting.Len(), 80_000)
	require.NotEqual(t, first.ID, e.waiting.Oldest(1)[0].Key)
}

// Two server connections for three edges, none of which is the same for two
// transactions.
// Reports: discourse/discourse#7030.
func TestEdgesWriteAtOnceThroughPgBouncer(t *testing.T) {
	t.Parallel()
	server := testserver.Postgres(t)
	bouncer := testserver.PgBouncer(t, server, 2)
	var work errgroup.Group
	const each = 6_000 // more than one batch
	for i := range 3 {
		e := newEdge(t, bouncer, fmt.Sprintf("edge-%d", i)).migrated()
		work.Go(func() error {
			for round := range 3 {
				for range each / 3 {
					e.Record(begun("vp"))
				}
				if err := e.Flush(t.Context()); err != nil {
					return fmt.Errorf("round %d: %w", round, err)
				}
				if _, err := e.cleanSome(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, work.Wait())
	require.Equal(t, 3*each, count(t, server.Connect(t), "orchestrator_id = 'vp'"))
}

// Sessions of all edges come, the newest first, and none of another orchestrator's.
func TestTheLastSessionsOfAnOrchestratorAreRead(t *testing.T) {
	t.Parallel()
	database := testserver.Postgres(t)
	e := newEdge(t, database.URL(), "edge").migrated()
	first, second, other := begun("vp").over(), begun("vp"), begun("somebody")
	second.Connected = second.Connected.Add(time.Hour)
	for _, s := range []Session{first, second, other} {
		e.Record(s)
	}
	require.NoError(t, e.Flush(t.Context()))
	last, err := e.Last(t.Context(), "vp", 5)
	require.NoError(t, err)
	require.Len(t, last, 2)
	require.True(t, last[0].Connected.Equal(second.Connected))
	require.Zero(t, last[0].Ended)
	require.Equal(t, "192.0.2.7", last[0].Address)
	require.Equal(t, "ended", last[1].State)
	require.True(t, last[1].Ended.Equal(first.Ended))
	require.Equal(t, Past{Daemon: "daemon", State: "ended", Connected: last[1].Connected, Ended: last[1].Ended, Code: 4006, Reason: "missed heartbeats", Address: "192.0.2.7", Edge: "edge", Sent: 10, Acked: 8}, last[1])
	last, err = e.Last(t.Context(), "vp", 1)
	require.NoError(t, err)
	require.Len(t, last, 1)
	last, err = e.Last(t.Context(), "no\x00body", 5)
	require.NoError(t, err)
	require.Empty(t, last)
}
