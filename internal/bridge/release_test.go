package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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

// shelf is a stream of events that wait, one of each addressee.
type shelf struct {
	mu     sync.Mutex
	bodies map[event.Token]string
}

func (s *shelf) Next(_ context.Context, addressee event.Token, from uint64) (m eventlog.Message, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.bodies[addressee]
	return eventlog.Message{Token: addressee, Sequence: 1, Body: []byte(body)}, ok && from <= 1, nil
}

func (s *shelf) Remove(_ context.Context, addressee event.Token, _ uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.bodies, addressee)
	return nil
}

func (s *shelf) Backlog(context.Context) (eventlog.Backlog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := eventlog.Backlog{Addressees: map[event.Token]uint64{}}
	for addressee := range s.bodies {
		b.Addressees[addressee] = 1
	}
	return b, nil
}

// The first addressee of a partition that did not answer ended the release of all.
func TestAPartitionThatDoesNotAnswerHoldsUpNoReleaseOfOthers(t *testing.T) {
	t.Parallel()
	const users, partitions = 100, 2
	isSilent := func(vp event.Token) bool { return event.PartitionOf(vp, partitions) == 0 }
	stream, want := &shelf{bodies: map[event.Token]string{}}, map[event.Token]uint64{}
	for u := range users {
		name := fmt.Sprintf("user%d", u)
		stream.bodies[event.Token(name)] = eventJSON(name, 0)
		if isSilent(event.Token(fmt.Sprintf("vp%d", u))) {
			want[event.Token(name)] = 1
		}
	}
	log := newFaultyStore()
	asked := 0 // guarded by log.mu
	log.fail = func(_ int, vp event.Token, _ string) error {
		if isSilent(vp) {
			asked++
			return eventlog.ErrUnavailable
		}
		return nil
	}
	p := startPump(t, log, &addressBook{identities: everybody{}, waiting: waiting.New()}, 10, func(p *pump) { p.partitions = partitions })
	r := newReleaser(stream, p.pump, newBacklogState(1000, prometheus.NewRegistry()), p.metrics, discard)
	require.ErrorIs(t, r.pass(t.Context()), eventlog.ErrUnavailable)
	b, err := stream.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, b.Addressees)
	log.mu.Lock()
	defer log.mu.Unlock()
	require.LessOrEqual(t, asked, releasesAtOnce, "it is not asked for each")
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
