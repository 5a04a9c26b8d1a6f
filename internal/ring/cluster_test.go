package ring

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	soon = testserver.Patience
	poll = 20 * time.Millisecond
)

// patient is for what must be told to a first member, which takes a slow machine
// longer than the 5 s that there are by default.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	t.Cleanup(cancel)
	return ctx
}

// node is a running Directory and what its watcher was told.
type node struct {
	*Directory
	told *recorder
	stop func() // as if the process had been killed
}

type setup struct {
	Config
	options
	watch     Watcher
	logger    *slog.Logger
	unwatched bool // nobody is told of claims
}

// start runs a node on a free loopback port that joins the others given.
func start(t testing.TB, tier Tier, name string, change func(*setup), others ...*node) *node {
	t.Helper()
	s := &setup{Config: settings.Default[Config](), options: defaultOptions(), logger: slog.New(slog.DiscardHandler)}
	s.GossipAddr = "127.0.0.1:0"
	s.rejoin = time.Second
	for _, other := range others {
		s.GossipJoin = append(s.GossipJoin, other.Self().Address)
	}
	if change != nil {
		change(s)
	}
	d, err := open(s.Config, tier, name, "test-build", s.logger, prometheus.NewRegistry(), s.options)
	require.NoError(t, err)
	n := &node{Directory: d, told: newRecorder(s.watch)}
	if !s.unwatched {
		d.Watch(n.told)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx, ctx.Done()) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	t.Cleanup(n.stop)
	return n
}

// recorder keeps the claims it was told of and the size of every call.
type recorder struct {
	next Watcher

	mu       sync.Mutex
	claims   map[Holding]int
	removals []int
	members  int
	wrong    []Holding // removed, but never added
}

func newRecorder(next Watcher) *recorder { return &recorder{next: next, claims: make(map[Holding]int)} }

func (r *recorder) ClaimsAdded(list []Holding) {
	if r.next != nil {
		r.next.ClaimsAdded(list)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range list {
		r.claims[h]++
	}
}

func (r *recorder) ClaimsRemoved(list []Holding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removals = append(r.removals, len(list))
	for _, h := range list {
		if r.claims[h] == 0 {
			r.wrong = append(r.wrong, h)
		}
		if r.claims[h]--; r.claims[h] == 0 {
			delete(r.claims, h)
		}
	}
}

func (r *recorder) MembersChanged() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members++
}

func (r *recorder) state() (claims map[Holding]int, removals []int, wrong []Holding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.claims), append([]int(nil), r.removals...), r.wrong
}

// fill makes the edge claim n orchestrators, named after the edge.
func (n *node) fill(count int) {
	for i := range count {
		n.Claim(claimOf(n.Self().Node+"-"+strconv.Itoa(i), uuid(i), 1))
	}
}

func everything(nodes ...*node) map[Holding]int {
	all := make(map[Holding]int)
	for _, n := range nodes {
		_, claims := n.table.snapshot()
		for _, h := range claims {
			all[h.holding()]++
		}
	}
	return all
}

// agree waits until every one of them knows exactly the claims that these edges
// make, and so does its watcher.
func agree(t *testing.T, edges []*node, all ...*node) {
	t.Helper()
	want := everything(edges...)
	for _, n := range all {
		require.Eventually(t, func() bool { return maps.Equal(want, contents(n.table)) }, soon, poll,
			"%s has %d claims, expected %d", n.Self().Name, n.table.total.Load(), len(want))
		require.Eventually(t, func() bool {
			claims, _, _ := n.told.state()
			return maps.Equal(want, claims)
		}, soon, poll, "the watcher of %s does not agree", n.Self().Name)
		_, _, wrong := n.told.state()
		require.Empty(t, wrong)
	}
}

// meet waits until each of them knows them all, and no other.
func meet(t testing.TB, all ...*node) {
	t.Helper()
	for _, n := range all {
		require.Eventually(t, func() bool {
			return len(n.Members(TierEdge))+len(n.Members(TierRouter)) == len(all)
		}, soon, poll, "%s: edges %v, routers %v", n.Self().Name, n.Members(TierEdge), n.Members(TierRouter))
	}
}

// network cuts nodes off from one another: packets are lost, dials fail.
type network struct {
	mu    sync.Mutex
	sides map[string]int // by address; who is on different sides cannot reach one another
}

func (w *network) cut(sides map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sides = sides
}

func (w *network) apart(a, b string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sides[a] != w.sides[b]
}

func (w *network) wrap(t memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
	return &faultyTransport{NodeAwareTransport: t, network: w}
}

type faultyTransport struct {
	memberlist.NodeAwareTransport
	network *network
}

func (t *faultyTransport) self() string {
	ip, port, _ := t.FinalAdvertiseAddr("", 0)
	return net.JoinHostPort(ip.String(), strconv.Itoa(port))
}

func (t *faultyTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if t.network.apart(t.self(), a.Addr) {
		return time.Now(), nil
	}
	return t.NodeAwareTransport.WriteToAddress(b, a)
}

func (t *faultyTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if t.network.apart(t.self(), a.Addr) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
	}
	conn, err := t.NodeAwareTransport.DialAddressTimeout(a, timeout)
	return &faultyConn{Conn: conn, network: t.network, from: t.self(), to: a.Addr}, err
}

// faultyConn breaks when its ends are cut off from one another.
type faultyConn struct {
	net.Conn
	network  *network
	from, to string
}

func (c *faultyConn) Write(b []byte) (int, error) {
	if c.network.apart(c.from, c.to) {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: context.DeadlineExceeded}
	}
	return c.Conn.Write(b)
}

// blocker is a watcher that does not come back until it is let go.
type blocker struct {
	entered chan struct{}
	release chan struct{}
}

func (b *blocker) ClaimsAdded([]Holding) {
	select {
	case b.entered <- struct{}{}:
	default:
	}
	<-b.release
}
func (b *blocker) ClaimsRemoved([]Holding) {}
func (b *blocker) MembersChanged()         {}

func tokenOf(n *node, i int) event.Token { return event.Token(n.Self().Node + "-" + strconv.Itoa(i)) }
