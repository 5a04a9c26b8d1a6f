package history

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// BenchmarkWrite writes begun sessions and then their ends, each row twice as in
// production, in full batches.
func BenchmarkWrite(b *testing.B) {
	server := testserver.Postgres(b)
	e := newEdge(b, server.URL(), "edge-1").migrated()
	e.flush()
	conn := server.Connect(b)
	written := 0
	for b.Loop() {
		sessions := make([]Session, maxBatch)
		for i := range sessions {
			sessions[i] = begun(protocol.OrchestratorID(fmt.Sprintf("clx%022d", rand.IntN(100_000))))
			sessions[i].Connected = time.Now()
			e.Record(sessions[i])
		}
		e.flush()
		for _, s := range sessions {
			e.Record(s.over())
		}
		e.flush()
		written += 2 * maxBatch
	}
	b.ReportMetric(float64(written)/b.Elapsed().Seconds(), "rows/s")
	var bytes int64
	require.NoError(b, conn.QueryRow(b.Context(), "select pg_total_relation_size('daemon_gateway.sessions')").Scan(&bytes))
	b.ReportMetric(float64(bytes)/float64(written/2), "bytes/session")
}

func BenchmarkRetention(b *testing.B) {
	server := testserver.Postgres(b)
	e := newEdge(b, server.URL(), "edge-1").migrated()
	server.Execute(b, addOld, 200_000)
	removed := 0
	for b.Loop() {
		deleted, _, err := e.store.cleanSome(b.Context(), 0)
		require.NoError(b, err)
		removed += deleted
		if deleted < stepRows {
			b.StopTimer()
			server.Execute(b, addOld, 200_000)
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(removed)/b.Elapsed().Seconds(), "rows/s")
}
