package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// BenchmarkAttach is how many daemons a second an edge takes in, each of another
// orchestrator, from the connect to its subscribed message: with tokens alone,
// with PostgreSQL that is asked for each, and with all of them remembered.
func BenchmarkAttach(b *testing.B) {
	const orchestrators = 20_000
	db := testserver.Postgres(b)
	db.NeolithTables(b)
	rows := make([]testserver.Orchestrator, orchestrators)
	for i := range rows {
		rows[i] = testserver.Orchestrator{ID: fmt.Sprintf("vp-%d", i), User: fmt.Sprintf("user-%d", i)}
	}
	db.AddOrchestrators(b, rows...)
	for _, mode := range []struct {
		name       string
		change     func(*Config)
		remembered bool
	}{
		{"tokens alone", func(*Config) {}, false},
		{"PostgreSQL asked for each", onDatabase(db.URL()), false},
		{"PostgreSQL, all remembered", onDatabase(db.URL()), true},
	} {
		b.Run(mode.name, func(b *testing.B) {
			n := newCluster(b).edge(mode.change, func(cfg *Config) { cfg.Listen.RateConnectsPerIP = 1 << 20 })
			if mode.remembered {
				ids := make([]protocol.OrchestratorID, len(rows))
				for i := range rows {
					ids[i] = protocol.OrchestratorID(rows[i].ID)
				}
				require.Len(b, n.registrar.identities.ResolveMany(b.Context(), ids), len(ids))
			}
			var next atomic.Int64
			b.SetParallelism(64)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := attachOnce(b, n, rows[int(next.Add(1))%orchestrators].ID); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "attaches/s")
		})
	}
}

// attachOnce connects a daemon, attaches it, and lets it go.
func attachOnce(b *testing.B, n *node, orchestrator string) error {
	ctx, cancel := context.WithTimeout(b.Context(), testserver.Patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, n.url(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	for _, text := range []string{frameOf("auth", authPayload(b, orchestrator, "d")), frameOf("subscribe", `{"eventTypes":["*"]}`)} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			return err
		}
	}
	for _, want := range []protocol.MessageType{protocol.TypeAuthSuccess, protocol.TypeSubscribed} {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		var m message
		if err := json.Unmarshal(data, &m); err != nil || m.Type != want {
			return fmt.Errorf("expected %s, got %s (%w)", want, data, err)
		}
	}
	return nil
}
