package router

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Invariant 1. A run used to receive one event more than it fed to the lane
// whenever FETCH_BATCH events were at hand: the event was never forwarded, and
// the next one of its orchestrator claimed that there was nothing between.
func TestEveryEventAtHandIsFedToTheLane(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 2, 3, 7} {
		shared := &routing{
			cfg: Config{FetchBatch: batch}, metrics: newMetrics(prometheus.NewRegistry()), logger: slog.New(slog.DiscardHandler),
			holders: func(dst []string, _ event.Token) []string { return append(dst, "edge") },
		}
		shared.cfg.Log.MaxEventBytes = 1 << 10
		r := newRun(shared, 0, "epoch", 0)
		const events = 20
		r.events = make(chan eventlog.Message, events)
		for q := range uint64(events) {
			r.events <- eventlog.Message{Token: "o", Sequence: q + 1, Body: []byte(`{"id":"e","type":"a.b","orchestratorId":"o","payload":{}}`)}
		}
		for len(r.events) > 0 {
			r.take(<-r.events)
		}
		r.lane.Flush()
		var fed []uint64
		for _, effect := range r.lane.Take(nil) {
			for _, f := range effect.(lane.Send).Batch.Events {
				fed = append(fed, f.Sequence)
			}
		}
		require.Len(t, fed, events, "FETCH_BATCH %d", batch)
	}
}
