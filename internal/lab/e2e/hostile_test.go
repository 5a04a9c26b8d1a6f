package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/attack"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// siege is a cluster of one edge with well-behaved daemons, whose events are
// published while hostile clients are at it.
type siege struct {
	*population
	edge   *cluster.Node
	before float64 // bytes in use
}

// besiege starts the cluster. Settings are the limit that a test sees met, if
// there is one: nobody is to meet another one because the machine is slow.
func besiege(t *testing.T, settings map[string]string) *siege {
	t.Helper()
	w := startWorld(t, func(cfg *cluster.Config) {
		cfg.Edges, cfg.Routers, cfg.Bridges = 1, 1, 1
		cfg.Settings = settings
	})
	p := w.populate(20)
	w.enter(p.everybody()...)
	return &siege{population: p, edge: w.Edges[0], before: inUse(w, w.Edges[0])}
}

// inUse returns the bytes of an edge's heap that are in use, garbage included.
func inUse(w *world, edge *cluster.Node) float64 {
	w.t.Helper()
	return w.metric(edge, "go_memstats_heap_inuse_bytes")
}

// withstand runs an attack until enough has come of it, publishes for the well-
// behaved meanwhile, and returns what came of it and the most memory in use.
func (s *siege) withstand(a attack.Attack, enough func() bool) (attack.Tally, float64) {
	s.w.t.Helper()
	ctx, cancel := context.WithCancel(s.w.ctx)
	defer cancel()
	var attacking sync.WaitGroup
	var tally attack.Tally
	target := attack.Target{URL: s.edge.URL, Gossip: s.edge.GossipAddr, Cluster: cluster.Name, GossipKey: cluster.GossipKey, Secret: cluster.Secret}
	attacking.Go(func() { tally = a.Run(ctx, target) })
	most := 0.0
	rounds := 0
	// No longer pauses than that: a round is work, and not a question.
	withstood := s.w.repeat(func() bool {
		rounds++
		s.feed(a, rounds)
		if s.made() < 4000 {
			s.publish(40)
		}
		most = max(most, inUse(s.w, s.edge))
		return rounds >= minimumRounds && enough()
	}, func(time.Duration) time.Duration { return shortestPause })
	require.True(s.w.t, withstood, "%s: what was to come of it did not", a.Name)
	cancel()
	attacking.Wait()
	return tally, most
}

// minimumRounds of publishing take at least a second.
const minimumRounds = 20

func (s *siege) feed(a attack.Attack, n int) {
	s.w.t.Helper()
	meal, err := a.Meal(n)
	require.NoError(s.w.t, err)
	if len(meal) > 0 && n <= 20 {
		require.NoError(s.w.t, s.w.Feed.PublishRaw(s.w.ctx, meal...))
	}
}

// relieve judges that the others have got all of theirs.
func (s *siege) relieve() {
	s.w.t.Helper()
	s.settle(ledger.Promise{})
	s.judge(ledger.Promise{PublishOrder: true})
}

func (s *siege) metric(name string, labels ...string) float64 {
	s.w.t.Helper()
	return s.w.metric(s.edge, name, labels...)
}

// closed is how many connections have ended with a code.
func (s *siege) closed(code protocol.CloseCode) float64 {
	s.w.t.Helper()
	return s.metric("gateway_edge_closes_total", fmt.Sprintf("code=%q", code))
}

const mebibyte = 1 << 20

// perClient is what a client may cost at most: a window of 1 MiB, held as the
// body and as the payload for its frame, a write of some 256 KiB and its text,
// and as much again for garbage.
const perClient = 6 * mebibyte

// slack is for what has nothing to do with the number of clients.
const slack = 96 * mebibyte

// sized is an attack of All with fewer clients.
func sized(t *testing.T, name string, clients int) attack.Attack {
	t.Helper()
	a, found := attack.Named(name)
	require.True(t, found, name)
	a.Clients = clients
	return a
}

func TestClientsThatTakeTooLittleCostTheirWindowsAndTheOthersNothing(t *testing.T) {
	t.Parallel()
	s := besiege(t, map[string]string{"WS_WRITE_TIMEOUT": "3s"})
	for _, name := range []string{"reads-nothing", "reads-slowly", "never-acks", "acks-twice"} {
		a := sized(t, name, 20)
		full, cut := s.metric("gateway_edge_windows_full_total"), s.closed(protocol.CloseAbnormal)
		_, most := s.withstand(a, func() bool {
			switch name {
			case "reads-nothing":
				return s.closed(protocol.CloseAbnormal) >= cut+float64(a.Clients)
			case "acks-twice":
				return true
			}
			return s.metric("gateway_edge_windows_full_total") >= full+float64(a.Clients)
		})
		require.Less(t, most, s.before+perClient*float64(a.Clients)+slack, name)
	}
	s.relieve()
}

func TestFloodsAreReadSlowly(t *testing.T) {
	t.Parallel()
	s := besiege(t, nil)
	for _, name := range []string{"acks-garbage", "subscribes", "heartbeats", "nonsense", "pings", "fragments"} {
		a := sized(t, name, 5)
		start := time.Now()
		tally, most := s.withstand(a, func() bool { return true })
		require.Less(t, most, s.before+perClient*float64(a.Clients)+slack, name)
		// What the edge does not read is in the buffers of the two kernels, a few
		// MiB on each side, and not in the edge.
		readable := (burst + time.Since(start).Seconds()*readPerSecond + kernels) * float64(a.Clients)
		require.Less(t, float64(tally.Sent), readable, name)
		require.Empty(t, tally.Closed, name)
	}
	require.Positive(t, s.metric("gateway_edge_rate_limited_total"))
	s.relieve()
}

// What an edge reads of a connection with messages of at most 64 KiB.
const (
	burst         = 1 * mebibyte
	readPerSecond = 128 << 10
	kernels       = 16 * mebibyte
)

func TestWhoSaysWhatNobodyMaySayIsClosedWithTheCodeForIt(t *testing.T) {
	t.Parallel()
	s := besiege(t, map[string]string{"WS_AUTH_TIMEOUT": "3000"})
	for name, attack := range map[string]struct {
		clients int // few where they write as fast as they can, and so take the machine from the edge
		code    protocol.CloseCode
	}{
		"too-large":            {10, protocol.CloseTooLarge},
		"lingers":              {50, protocol.CloseAuthTimeout},
		"half-frame":           {50, protocol.CloseAuthTimeout},
		"nonsense-at-the-door": {10, protocol.CloseAuthTimeout},
	} {
		a, code := sized(t, name, attack.clients), attack.code
		before := s.closed(code)
		tally, most := s.withstand(a, func() bool { return s.closed(code) >= before+float64(2*a.Clients) })
		// The edge has closed two connections for each client, which knows of one.
		require.GreaterOrEqual(t, tally.Opened, a.Clients, name)
		require.Positive(t, tally.Closed[int(code)], "%s: %v", name, tally)
		require.Less(t, most, s.before+slack, name)
	}
	s.relieve()
}

func TestComingAndGoingLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := besiege(t, nil)
	for _, name := range []string{"opens-and-closes", "knocks"} {
		before := s.metric("gateway_edge_closes_total")
		_, most := s.withstand(sized(t, name, 20), func() bool { return s.metric("gateway_edge_closes_total") >= before+500 })
		require.Less(t, most, s.before+slack, name)
	}
	s.w.eventually(func() bool { return s.metric("gateway_connections") == float64(s.w.Crowd.Present()) }, "connections of clients that are gone are left")
	require.NoError(t, s.w.AwaitClaims(s.w.ctx, s.w.Crowd.Present()))

	// Whoever never finishes the headers of the upgrade is no connection yet.
	a := sized(t, "half-request", 200)
	descriptors := s.metric("process_open_fds")
	tally, most := s.withstand(a, func() bool { return s.metric("process_open_fds") >= descriptors+0.9*float64(a.Clients) })
	require.Zero(t, tally.Opened)
	require.Less(t, most, s.before+slack)
	s.w.eventually(func() bool { return s.metric("process_open_fds") <= descriptors+10 }, "descriptors are left")
	s.relieve()
}

// Regression: who had the gossip key made an edge take 140 MiB with each stream.
func TestGossipThatDeclaresMuchCostsAnEdgeNothing(t *testing.T) {
	t.Parallel()
	s := besiege(t, nil)
	const dropped, why = "gateway_directory_dropped_messages_total", `reason="malformed"`
	before := s.metric(dropped, why)
	tally, most := s.withstand(sized(t, "gossip-declared", 10), func() bool { return s.metric(dropped, why) >= before+200 })
	require.GreaterOrEqual(t, tally.Opened, 200)
	require.Less(t, most, s.before+slack)
	s.relieve()
}
