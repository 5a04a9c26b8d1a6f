package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/bridge/waiting"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// everybody knows all users: user… belongs to vp….
type everybody struct{ identities }

func (everybody) ResolveMany(_ context.Context, ids []protocol.OrchestratorID) map[protocol.OrchestratorID]identity.Answer {
	answers := map[protocol.OrchestratorID]identity.Answer{}
	for _, id := range ids {
		answers[id] = identity.Answer{Identity: identity.Identity{Orchestrator: "vp" + id[len("user"):]}}
	}
	return answers
}

// dying is a bridge's view of the log and of the stream that ends after some
// requests that change something: the process is killed then.
type dying struct {
	store
	backlog
	left atomic.Int64
}

var errKilled = errors.New("killed")

func (d *dying) PublishAsync(ctx context.Context, orchestrator event.Token, eventID string, body []byte, done func(eventlog.Ack, error)) {
	if d.left.Add(-1) < 0 {
		go done(eventlog.Ack{}, fmt.Errorf("%w: %w", eventlog.ErrUnavailable, errKilled))
		return
	}
	d.store.PublishAsync(ctx, orchestrator, eventID, body, done)
}

func (d *dying) Remove(ctx context.Context, addressee event.Token, upTo uint64) error {
	if d.left.Add(-1) < 0 {
		return errKilled
	}
	return d.backlog.Remove(ctx, addressee, upTo)
}

// TestABridgeThatIsKilledWhileItReleases: wherever it ends, another one finishes
// its work, and each event is in the log once, in order.
func TestABridgeThatIsKilledWhileItReleases(t *testing.T) {
	t.Parallel()
	s := &site{t: t, nats: testserver.NATS(t)}
	cfg := settings.Default[eventlog.Config]()
	cfg.Partitions = 2
	log, err := eventlog.Open(t.Context(), s.nats.JetStream(), cfg, discard, prometheus.NewRegistry())
	require.NoError(t, err)
	stream, err := log.OpenUnresolved(t.Context(), func(string) {})
	require.NoError(t, err)
	const users, each = 3, 150 // more than are removed together
	for n := range each {
		for u := range users {
			name := fmt.Sprintf("user%d", u)
			_, err := stream.Keep(t.Context(), event.Token(name), eventIDs(name, n, n+1)[0], []byte(eventJSON(name, n)))
			require.NoError(t, err)
		}
	}
	bridge := func(requests int64) *releaser {
		d := &dying{store: log, backlog: stream}
		d.left.Store(requests)
		p := startPump(t, d, &addressBook{identities: everybody{}, waiting: waiting.New()}, 10)
		return newReleaser(d, p.pump, newBacklogState(1000, prometheus.NewRegistry()), p.metrics, discard)
	}
	for _, requests := range []int64{0, 1, 70, 250, 301, 20} {
		b := bridge(requests)
		eventually(t, func() bool { return errors.Is(b.pass(t.Context()), errKilled) }, "it is killed")
	}
	last := bridge(1 << 20)
	eventually(t, func() bool { return last.pass(t.Context()) == nil }, "everything is released")
	stored := s.stored(cfg.Partitions)
	require.Len(t, stored, users)
	for u := range users {
		require.Equal(t, eventIDs(fmt.Sprintf("user%d", u), 0, each), ids(stored[fmt.Sprintf("vp%d", u)]))
	}
	b, err := stream.Backlog(t.Context())
	require.NoError(t, err)
	require.Zero(t, b.Events)
}

// TestTwoBridgesReleaseTheSame: at the same time, and none is stored twice.
func TestTwoBridgesReleaseTheSame(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	db := testserver.Postgres(t)
	neolith(t, db, 0)
	cfg := s.withDatabase(db)
	a, b := s.start(cfg).ready(), s.start(cfg).ready()
	const users, each = 20, 30
	client := s.publisher()
	want := map[string]int{}
	for u := range users {
		publish(t, client, "daemon:events", eventsOf(fmt.Sprintf("user%d", u), 0, each)...)
		want[fmt.Sprintf("user%d", u)] = each
	}
	s.awaitUnresolved(want)
	addOrchestrators(t, db, 0, users)
	s.awaitUnresolved(map[string]int{})
	stored := s.stored(cfg.Log.Partitions)
	for u := range users {
		require.Equal(t, eventIDs(fmt.Sprintf("user%d", u), 0, each), ids(stored[fmt.Sprintf("vp%d", u)]))
	}
	require.NoError(t, a.wait())
	require.NoError(t, b.wait())
	first := a.released(outcomeStored) + b.released(outcomeStored)
	require.LessOrEqual(t, first, float64(users*each), "what the other one has stored is a duplicate")
	require.GreaterOrEqual(t, first+a.released(outcomeDuplicate)+b.released(outcomeDuplicate), float64(users*each))
}

func TestMetricsTellForWhomNoMoreEventsAreKept(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	state := newBacklogState(3, reg)
	state.set(eventlog.Backlog{Events: 9, Addressees: map[event.Token]uint64{"two": 2, "three": 3, "four": 4}})
	text := "# HELP gateway_bridge_unresolved_full_addressees Addressees for whom as many events wait as are kept of one: older ones may be gone.\n" +
		"# TYPE gateway_bridge_unresolved_full_addressees gauge\ngateway_bridge_unresolved_full_addressees 2\n"
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(text), "gateway_bridge_unresolved_full_addressees"))
}
