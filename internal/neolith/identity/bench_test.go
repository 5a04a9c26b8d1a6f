package identity_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

// BenchmarkCached is what an event costs whose orchestrator is remembered.
func BenchmarkCached(b *testing.B) {
	db := testserver.Postgres(b)
	db.NeolithTables(b)
	ids := populate(b, db, 10_000)
	r := start(b, db.URL(), always)
	r.ResolveMany(b.Context(), ids)
	b.Run("one caller", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, ok := r.Cached(ids[i%len(ids)]); !ok {
				b.Fatal("not in the cache")
			}
		}
	})
	b.Run("all CPUs", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if _, ok := r.Cached(ids[i%len(ids)]); !ok {
					b.Error("not in the cache")
				}
			}
		})
	})
}

// BenchmarkAsk looks up 1,000 orchestrators of 100,000 that are not remembered.
func BenchmarkAsk(b *testing.B) {
	db := testserver.Postgres(b)
	db.NeolithTables(b)
	const batch = 1000
	ids := populate(b, db, 100*batch)
	r := start(b, db.URL(), never)
	asked := 0
	for b.Loop() {
		from := asked % len(ids)
		for id, answer := range r.ResolveMany(b.Context(), ids[from:from+batch]) {
			require.NoError(b, answer.Err, id)
		}
		asked += batch
	}
	b.ReportMetric(float64(asked)/b.Elapsed().Seconds(), "ids/s")
}
