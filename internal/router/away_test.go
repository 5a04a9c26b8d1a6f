package router

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// What a daemon that is away has settled before does not wait for it, and what is
// held by an edge does not wait for anybody who is away.
func TestWhatWaitsForDaemonsThatAreAwayIsCounted(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	cfg := settings.Default[eventlog.Config]()
	cfg.Partitions, cfg.EventsPerOrchestrator = 1, 3
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	log, err := eventlog.Open(ctx, server.JetStream(), cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	publish := func(o event.Token, events int) (last uint64) {
		for n := range events {
			id := fmt.Sprintf("%s-%d", o, n)
			body := fmt.Sprintf(`{"id":%q,"type":"message.received","orchestratorId":%q,"payload":{},"requiresAck":true}`, id, o)
			ack, err := log.Publish(ctx, o, id, []byte(body))
			require.NoError(t, err)
			last = ack.Sequence
		}
		return last
	}
	cursors, err := server.JetStream().KeyValue(ctx, eventlog.CursorBucket(0))
	require.NoError(t, err)
	stands := func(o event.Token, epoch eventlog.Epoch, floors map[protocol.DaemonID]uint64) {
		rec := cursor.Record{Epoch: epoch, Daemons: map[protocol.DaemonID]cursor.Entry{}}
		for daemon, floor := range floors {
			rec.Daemons[daemon] = cursor.Entry{Floor: floor}
		}
		value, err := rec.Encode()
		require.NoError(t, err)
		_, err = cursors.Put(ctx, string(o), value)
		require.NoError(t, err)
	}
	a := &away{log: log, holders: func(dst []string, o event.Token) []string {
		if o == "connected" {
			return append(dst, "edge")
		}
		return dst
	}}
	found, err := a.count(ctx, 0)
	require.NoError(t, err)
	require.Zero(t, found)

	epoch := log.Epoch(0)
	publish("connected", 2)
	publish("_canary_edge", 1)
	publish("never-seen", 2)
	stands("done", epoch, map[protocol.DaemonID]uint64{"gone-for-good": 0, "newest": publish("done", 2)})
	stands("halfway", epoch, map[protocol.DaemonID]uint64{"d": publish("halfway", 1)})
	publish("halfway", 2)
	found, err = a.count(ctx, 0)
	require.NoError(t, err)
	require.Equal(t, 2, found.orchestrators)
	require.Equal(t, 3, found.events, "2 for who was never seen, 1 for who has come halfway")
	require.InDelta(t, 2.0/3, found.deepest, 1e-9)
	require.Positive(t, found.oldest)
	require.Less(t, found.oldest, 0.1, "of a week")

	publish("never-seen", 5)
	stands("another-epoch", "before", map[protocol.DaemonID]uint64{"d": publish("another-epoch", 1)})
	found, err = a.count(ctx, 0)
	require.NoError(t, err)
	require.Equal(t, []int{3, 5, 1}, []int{found.orchestrators, found.events, found.full})
	require.InDelta(t, 1.0/3, found.deepest, 1e-9, "of those for whom not all waits yet")
}

// Who is to act before an event is gone has to learn of it while it waits.
func TestHowNearWaitingEventsAreToBeingGone(t *testing.T) {
	t.Parallel()
	limits := eventlog.Config{EventsPerOrchestrator: 1000, EventRetention: 100 * time.Hour}
	now := time.Now()
	var w waiting
	w.add(300, now.Add(-60*time.Hour), now, limits)
	w.add(600, now.Add(-10*time.Hour), now, limits)
	w.add(1000, now.Add(-20*time.Hour), now, limits)
	require.Equal(t, waiting{orchestrators: 3, events: 1900, full: 1, deepest: 0.6, oldest: 0.6}, w)
}

func TestARouterShowsWhatWaitsInItsPartitions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, testserver.NATS(t))
	c.publish("vp")
	r := c.router("one")
	shown := func(v *prometheus.GaugeVec) float64 {
		return testutil.ToFloat64(v.WithLabelValues("0")) + testutil.ToFloat64(v.WithLabelValues("1"))
	}
	c.eventually(func() bool { return shown(r.metrics.awayEvents) == 1 }, "the event waits, and is shown")
	require.EqualValues(t, 1, shown(r.metrics.away))
	require.Zero(t, shown(r.metrics.awayFull))
	require.InDelta(t, 0.001, shown(r.metrics.awayDeepest), 1e-9)
	require.Positive(t, shown(r.metrics.awayOldest))
}
