package presence

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// BenchmarkWrite writes statuses in full batches to a table of 100,000
// orchestrators: all of a batch changed, or none.
func BenchmarkWrite(b *testing.B) {
	for name, statuses := range map[string][]Status{
		"changed":   {Busy, Away},
		"unchanged": {Busy, Busy},
		"gone":      {Gone, Online},
	} {
		b.Run(name, func(b *testing.B) { benchmarkWrite(b, statuses) })
	}
}

func benchmarkWrite(b *testing.B, statuses []Status) {
	const orchestrators = 100_000
	s := newBenchStore(b, orchestrators)
	term, _, err := s.load(b.Context(), 0)
	require.NoError(b, err)
	batches := make([][]Change, orchestrators/maxBatch)
	for i := range orchestrators {
		batch := &batches[i/maxBatch]
		*batch = append(*batch, Change{Partition: 0, Term: term, Orchestrator: event.Token(benchID(i))})
	}
	round := func(i int) {
		batch := batches[i%len(batches)]
		status := statuses[i/len(batches)%len(statuses)]
		for k := range batch {
			batch[k].Status = status
		}
		_, _, err := s.write(b.Context(), batch)
		require.NoError(b, err)
	}
	for i := range batches {
		round(i)
	}
	i := len(batches)
	for b.Loop() {
		round(i)
		i++
	}
	b.ReportMetric(float64((i-len(batches))*maxBatch)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkCompare looks at 100,000 orchestrators that are shown as they were written.
func BenchmarkCompare(b *testing.B) {
	const orchestrators = 100_000
	s := newBenchStore(b, orchestrators)
	term, _, err := s.load(b.Context(), 0)
	require.NoError(b, err)
	batch := make([]Change, 0, maxBatch)
	for i := range orchestrators {
		if batch = append(batch, Change{Partition: 0, Term: term, Orchestrator: event.Token(benchID(i)), Status: Online}); len(batch) == maxBatch {
			_, _, err := s.write(b.Context(), batch)
			require.NoError(b, err)
			batch = batch[:0]
		}
	}
	all := []event.Partition{0}
	for b.Loop() {
		require.NoError(b, s.disown(b.Context(), all))
		differing, err := s.differing(b.Context(), all)
		require.NoError(b, err)
		require.Empty(b, differing)
	}
}

func benchID(i int) string { return fmt.Sprintf("clx%022d", i) }

// newBenchStore returns a store on a database with so many orchestrators.
func newBenchStore(b *testing.B, orchestrators int) *store {
	b.Helper()
	server := testserver.Postgres(b)
	server.NeolithTables(b)
	rows := make([]testserver.Orchestrator, orchestrators)
	for i := range rows {
		rows[i] = testserver.Orchestrator{ID: benchID(i), User: "user-" + benchID(i)}
	}
	server.AddOrchestrators(b, rows...)
	cfg := settings.Default[postgres.Config]()
	cfg.DatabaseURL = settings.URL(server.URL())
	db, err := postgres.Open(cfg, "bench", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- db.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		require.NoError(b, <-ended)
		require.NoError(b, db.Close(context.Background()))
	})
	<-db.Migrated()
	return newStore(db, "bench", WhenGoneAway)
}
