package ring

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestClaimsConverge(t *testing.T) {
	t.Parallel()
	a := start(t, TierEdge, "a", nil)
	b := start(t, TierEdge, "b", nil, a)
	c := start(t, TierEdge, "c", nil, a)
	r := start(t, TierRouter, "r", nil, a)
	q := start(t, TierRouter, "q", nil, b)
	all := []*node{a, b, c, r, q}
	meet(t, all...)
	for _, edge := range all[:3] {
		edge.fill(100)
		edge.Claim(claimOf("everywhere", "of-"+edge.Self().Node, 7))
	}
	agree(t, all[:3], all...)
	for _, n := range all {
		require.ElementsMatch(t, []string{a.Self().Name, b.Self().Name, c.Self().Name}, n.AppendEdges(nil, "everywhere"))
		require.Equal(t, []Holding{{b.Self().Name, claimOf(string(tokenOf(b, 5)), uuid(5), 1)}}, n.Holdings(tokenOf(b, 5)))
		require.Eventually(t, n.Settled, soon, poll)
	}
	a.Release(protocol.SessionID(uuid(5)))
	b.Claim(claimOf("everywhere", "of-b", 8))
	r.Claim(claimOf("everywhere", "of-a-router", 9))
	agree(t, all[:3], all...)
	require.Contains(t, a.Members(TierEdge), Member{
		Name: c.Self().Name, Node: "c", Tier: TierEdge, Address: c.Self().Address, Build: "test-build",
	})
}

// A killed edge takes all its claims with it, in one call to the watcher.
func TestKilledEdgeTakesItsClaims(t *testing.T) {
	t.Parallel()
	a := start(t, TierEdge, "a", nil)
	b := start(t, TierEdge, "b", nil, a)
	r := start(t, TierRouter, "r", nil, a)
	meet(t, a, b, r)
	a.fill(10)
	b.fill(500)
	agree(t, []*node{a, b}, a, b, r)
	b.stop()
	meet(t, a, r)
	agree(t, []*node{a}, a, r)
	_, removals, _ := r.told.state()
	require.Contains(t, removals, 500)
}

func TestLeavingEdgeTakesItsClaims(t *testing.T) {
	t.Parallel()
	a := start(t, TierEdge, "a", nil)
	r := start(t, TierRouter, "r", nil, a)
	meet(t, a, r)
	a.fill(20)
	agree(t, []*node{a}, r)
	require.NoError(t, a.Leave(patient(t)))
	meet(t, r)
	agree(t, nil, r)
	require.NoError(t, a.Leave(context.Background()), "twice is no error")
	a.stop()
	require.ErrorIs(t, a.Leave(context.Background()), errClosed)
	require.ErrorIs(t, a.SetDraining(context.Background(), true), errClosed)
	require.NoError(t, a.Close())
}

// Messages that are lost although sending succeeded are noticed by the digests
// in the pings' answers, and a snapshot mends what they held.
func TestLostMessagesAreRepaired(t *testing.T) {
	t.Parallel()
	var losing atomic.Bool
	a := start(t, TierEdge, "a", func(s *setup) {
		s.lose = func(string, []byte) bool { return losing.Load() }
	})
	r := start(t, TierRouter, "r", nil, a)
	meet(t, a, r)
	a.fill(10)
	agree(t, []*node{a}, r)
	losing.Store(true)
	a.fill(30)
	a.Release(protocol.SessionID(uuid(3)))
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.snapshots.Of(snapshotRequested)) > 1 }, soon, poll)
	losing.Store(false)
	agree(t, []*node{a}, r)
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.snapshots.Of(snapshotReceived)) >= 1 }, soon, poll)
}

// Both sides of a partition forget the other, go on, and find each other by
// joining again, which no side would do by itself.
// Reports: hashicorp/memberlist#222, weaviate/weaviate#8246.
func TestPartitionAndRejoin(t *testing.T) {
	t.Parallel()
	var w network
	faulty := func(s *setup) { s.wrap = w.wrap }
	a := start(t, TierEdge, "a", faulty)
	r := start(t, TierRouter, "r", faulty, a)
	b := start(t, TierEdge, "b", faulty, a)
	q := start(t, TierRouter, "q", faulty, a)
	all := []*node{a, r, b, q}
	meet(t, all...)
	a.fill(50)
	b.fill(50)
	agree(t, []*node{a, b}, all...)

	w.cut(map[string]int{b.Self().Address: 1, q.Self().Address: 1})
	agree(t, []*node{a}, a, r)
	agree(t, []*node{b}, b, q)
	a.Claim(claimOf("new", "meanwhile", 1))
	b.Release(protocol.SessionID(uuid(7)))
	b.Claim(claimOf("new", "meanwhile-too", 1))

	w.cut(nil)
	meet(t, all...)
	agree(t, []*node{a, b}, all...)
}

// Reports: grafana/mimir#6187, hashicorp/memberlist#241.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	key := func(s *setup, c string) {
		s.GossipKeys = []settings.Secret{settings.Secret(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(c, 32))))}
	}
	tests := []struct {
		name         string
		ours, theirs func(*setup)
	}{
		{"cluster name", nil, func(s *setup) { s.ClusterName = "other" }},
		{"key", func(s *setup) { key(s, "k") }, func(s *setup) { key(s, "x") }},
		{"plain to encrypted", func(s *setup) { key(s, "k") }, nil},
		{"encrypted to plain", nil, func(s *setup) { key(s, "k") }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := start(t, TierEdge, "a", test.ours)
			stranger := start(t, TierEdge, "stranger", test.theirs, a)
			a.fill(3)
			require.Error(t, stranger.join(context.Background()))
			require.Error(t, stranger.join(context.Background()))
			require.Len(t, a.Members(TierEdge), 1)
			require.Len(t, stranger.Members(TierEdge), 1)
			require.Empty(t, contents(stranger.table))
			require.False(t, stranger.joined.Load())
		})
	}
}

// The steps of a rotation: new key known, then in use, then alone. Neighbours
// in it understand one another at every step.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	oldKey := settings.Secret(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("o", 16))))
	newKey := settings.Secret(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("n", 32))))
	steps := [][]settings.Secret{{oldKey}, {oldKey, newKey}, {newKey, oldKey}, {newKey}}
	for i := range steps[1:] {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			a := start(t, TierEdge, "a", func(s *setup) { s.GossipKeys = steps[i] })
			b := start(t, TierEdge, "b", func(s *setup) { s.GossipKeys = steps[i+1] }, a)
			meet(t, a, b)
			a.fill(5)
			b.fill(5)
			agree(t, []*node{a, b}, a, b)
		})
	}
}

// A restarted pod has its old node name and a new address. With the node name
// as member name memberlist would refuse it until the old one is long dead.
// Reports: hashicorp/consul#733, #6897.
func TestRestartedNodeIsAcceptedAtOnce(t *testing.T) {
	t.Parallel()
	r := start(t, TierRouter, "r", nil)
	a := start(t, TierEdge, "a", nil, r)
	meet(t, r, a)
	a.fill(5)
	agree(t, []*node{a}, r)
	a.stop()
	again := start(t, TierEdge, "a", nil, r)
	again.Claim(claimOf("after", "restart", 1))
	require.NotEqual(t, a.Self().Address, again.Self().Address)
	require.Eventually(t, func() bool { return len(r.Holdings("after")) == 1 }, soon, poll)
	require.Contains(t, r.Members(TierEdge), again.Self())
	agree(t, []*node{again}, r)
}

// A late joiner asks every edge for its snapshot, here of 25 chunks, while the
// edge goes on changing.
func TestLateJoinerFetchesManyClaims(t *testing.T) {
	t.Parallel()
	a := start(t, TierEdge, "a", nil)
	a.fill(50_000)
	r := start(t, TierRouter, "r", nil, a)
	for i := range 1000 {
		a.Claim(claimOf("later-"+strconv.Itoa(i), "later-"+strconv.Itoa(i), 1))
		a.Release(protocol.SessionID(uuid(i)))
	}
	agree(t, []*node{a}, r)
	require.Eventually(t, r.Settled, soon, poll)
}

func TestDrainingIsSeen(t *testing.T) {
	t.Parallel()
	a := start(t, TierEdge, "a", nil)
	r := start(t, TierRouter, "r", nil, a)
	meet(t, a, r)
	for _, draining := range []bool{true, false} {
		require.NoError(t, a.SetDraining(patient(t), draining))
		require.Equal(t, draining, a.Self().Draining)
		require.Contains(t, a.Members(TierEdge), a.Self())
		require.Eventually(t, func() bool { return slices.Contains(r.Members(TierEdge), a.Self()) }, soon, poll)
	}
}

// A watcher that never comes back holds up neither the gossip nor the readers,
// and is told the whole truth when it does.
func TestBlockingWatcherHarmsNobody(t *testing.T) {
	t.Parallel()
	w := &blocker{entered: make(chan struct{}, 1), release: make(chan struct{})}
	a := start(t, TierEdge, "a", nil)
	r := start(t, TierRouter, "r", func(s *setup) { s.watch = w }, a)
	a.fill(1)
	<-w.entered
	a.fill(100)
	b := start(t, TierEdge, "b", nil, a)
	meet(t, a, b, r)
	b.fill(100)
	want := len(everything(a, b))
	require.Eventually(t, func() bool { return int(r.table.total.Load()) == want }, soon, poll)
	b.stop()
	meet(t, a, r)
	close(w.release)
	agree(t, []*node{a}, r)
}

// Names are resolved again and again, for ever: two islands whose headless
// service showed them only themselves become one cluster when it shows both.
// The same port on two loopback addresses stands for two pods.
// Reports: uber/ringpop-go#175, hashicorp/consul#3902.
func TestIslandsFindTogetherByName(t *testing.T) {
	t.Parallel()
	var both atomic.Bool
	lookup := func(only string) lookupFunc {
		return func(context.Context, string) ([]netip.Addr, error) {
			if both.Load() {
				return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}, nil
			}
			return []netip.Addr{netip.MustParseAddr(only)}, nil
		}
	}
	port := ":" + strconv.Itoa(testserver.Port(t))
	a := start(t, TierEdge, "a", func(s *setup) { s.GossipAddr = "127.0.0.1" + port })
	b := start(t, TierEdge, "b", func(s *setup) {
		s.GossipAddr, s.lookup, s.GossipJoin = "127.0.0.2"+port, lookup("127.0.0.2"), []string{"gossip.example" + port}
	})
	c := start(t, TierRouter, "c", func(s *setup) {
		s.GossipAddr, s.lookup, s.GossipJoin = "127.0.0.3"+port, lookup("127.0.0.3"), []string{"gossip.example" + port}
	})
	require.Eventually(t, func() bool { return b.Settled() && c.Settled() }, soon, poll, "alone, for nobody else is named")
	require.Len(t, b.Members(TierEdge), 1)
	both.Store(true)
	meet(t, a, b, c)
}

// Whoever cannot reach anybody says so, and is not settled before its time.
func TestUnreachableMembersAreRetried(t *testing.T) {
	t.Parallel()
	// Nobody else is given it while a is away.
	address := "127.0.0.1:" + strconv.Itoa(testserver.Port(t))
	a := start(t, TierEdge, "a", func(s *setup) { s.GossipAddr = address })
	a.stop()
	b := start(t, TierEdge, "b", func(s *setup) { s.GossipJoin = []string{address} })
	require.Error(t, b.join(context.Background()))
	require.False(t, b.joined.Load())
	again := start(t, TierEdge, "a", func(s *setup) { s.GossipAddr = address })
	meet(t, again, b)
	require.Eventually(t, b.Settled, soon, poll)
}

// Whoever stops says nothing of a member that stops at the same time.
func TestNothingIsSaidOfAMemberThatStopsAsThisNodeDoes(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var told testserver.Journal
	s := &setup{Config: settings.Default[Config](), options: defaultOptions()}
	s.GossipAddr, s.GossipJoin = "127.0.0.1:0", []string{listener.Addr().String()}
	d, err := open(s.Config, TierEdge, "a", "test-build", slog.New(slog.NewTextHandler(&told, nil)), prometheus.NewRegistry(), s.options)
	require.NoError(t, err)

	ctx, again := context.WithCancel(context.Background())
	stopping := make(chan struct{})
	var member sync.WaitGroup
	member.Go(func() {
		for _, next := range []func(){func() { close(stopping) }, again} {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			next()
			_ = conn.Close()
		}
	})
	d.keepJoining(ctx, stopping)
	require.NoError(t, listener.Close())
	member.Wait()
	require.NoError(t, d.Close())
	require.NoError(t, ctx.Err(), "joined again")
	require.Empty(t, told.String())
	again()
}
