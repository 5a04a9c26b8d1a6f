package edge

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	daemonclient "github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// small lets a test see in seconds what takes minutes in production.
func small(cfg *Config) {
	cfg.Balance = BalanceConfig{BalanceRate: 20, BalanceMinimum: 5, BalanceAfter: 3 * time.Second}
	cfg.Listen.RateConnectsPerIP = 1000
}

// crowd is daemons that run, and what they saw of connections that ended.
type crowd struct {
	t *testing.T

	mu      sync.Mutex
	strange []daemonclient.StateChange // ends that no reconnect asked for
	asked   map[protocol.SessionID]bool
}

// run starts a daemon of an orchestrator of its own; dial leads it to an edge.
// What it returns is closed when the daemon is subscribed.
func (c *crowd) run(orchestrator, url string, dial func(ctx context.Context, network, address string) (net.Conn, error)) <-chan struct{} {
	c.t.Helper()
	subscribed := make(chan struct{})
	var session protocol.SessionID
	daemon, err := daemonclient.New(daemonclient.Config{
		URLs: []string{url}, DialContext: dial, OrchestratorID: protocol.OrchestratorID(orchestrator), DaemonID: "daemon",
		Token: func(context.Context) (string, error) {
			return auth.Mint(secret, auth.Grant{Orchestrator: protocol.OrchestratorID(orchestrator), Daemon: "daemon", ExpiresAt: time.Now().Add(time.Hour)})
		},
		Subscriptions: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		Handler:       func(context.Context, protocol.Event) error { return nil },
		Backoff:       daemonclient.Backoff{Min: 10 * time.Millisecond, Max: time.Second},
		OnFrame: func(f daemonclient.Frame) {
			if f.Type == protocol.TypeReconnect {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.asked[session] = true
			}
		},
		OnState: func(s daemonclient.StateChange) {
			c.mu.Lock()
			defer c.mu.Unlock()
			switch s.State {
			case daemonclient.StateAuthenticated:
				session = s.SessionID
			case daemonclient.StateSubscribed:
				select {
				case <-subscribed:
				default:
					close(subscribed)
				}
			case daemonclient.StateDisconnected:
				if !c.asked[s.SessionID] || !s.Local || s.Close != protocol.CloseNormal {
					c.strange = append(c.strange, s)
				}
			}
		},
	})
	require.NoError(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = daemon.Run(ctx)
	}()
	c.t.Cleanup(func() { cancel(); <-ended })
	return subscribed
}

func (c *crowd) strangeEnds() []daemonclient.StateChange {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.strange
}

func TestAnEdgeThatHoldsMoreThanItsShareSendsDaemonsAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	edges := []*node{c.edge(small), c.edge(small), c.edge(small)}
	daemons := &crowd{t: t, asked: make(map[protocol.SessionID]bool)}
	const each, most = 20, 22 // within 10 % of the mean
	var subscribed []<-chan struct{}
	for i := range len(edges) * each {
		first := true
		subscribed = append(subscribed, daemons.run(fmt.Sprintf("orch-%d", i), edges[0].url(),
			func(ctx context.Context, network, address string) (net.Conn, error) {
				// All come to the first edge; later the load balancer goes by connections.
				if !first {
					address = slices.MinFunc(edges, func(a, b *node) int { return a.door.count() - b.door.count() }).Addr().String()
				}
				first = false
				var dialer net.Dialer
				return dialer.DialContext(ctx, network, address)
			}))
	}
	for _, s := range subscribed {
		select {
		case <-s:
		case <-t.Context().Done():
			require.Fail(t, "a daemon is not subscribed")
		}
	}
	require.Eventually(t, func() bool {
		connected := 0
		for _, e := range edges {
			n := int(e.hub.count.Load())
			connected += n
			if n > most {
				return false
			}
		}
		return connected == len(edges)*each
	}, testserver.Patience, 20*time.Millisecond, "%v", late(func() string {
		return fmt.Sprint(edges[0].hub.count.Load(), edges[1].hub.count.Load(), edges[2].hub.count.Load())
	}))
	require.Empty(t, daemons.strangeEnds(), "nobody was sent away without a word")
	shed := 0
	for _, e := range edges {
		n, err := strconv.Atoi(e.metric("gateway_edge_shed_total"))
		require.NoError(t, err)
		shed += n
	}
	require.GreaterOrEqual(t, shed, len(edges)*each-each-2, "the others had none")
	require.Less(t, shed, 3*each, "and they were not moved about")
}

func TestDaemonsAreToldToGoLongestConnectedFirstAndOnlyOnce(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(small)
	var open []*connection
	s := newShedder(n.cfg.Balance, n.directory, func() []*connection { return open }, n.metrics, n.logger)
	now := time.Now()
	up := func(orchestrator string, age time.Duration) *connection {
		n.login(orchestrator, "daemon").alive()
		token := event.TokenOf(orchestrator)
		c := n.hub.connections(token)[0]
		c.mu.Lock()
		defer c.mu.Unlock()
		c.admittedAt = now.Add(-age)
		open = append(open, c)
		return c
	}
	up("young", 0)
	up("old", time.Minute)
	oldest := up("oldest", time.Hour)
	choose := func(n int, now time.Time) (tokens []event.Token) {
		for _, c := range s.choose(n, now) {
			tokens = append(tokens, c.token)
		}
		return tokens
	}
	require.Equal(t, []event.Token{"oldest", "old"}, choose(3, now), "and none that has just come")
	require.Empty(t, choose(0, now))
	oldest.moveAway(0, now.Add(-time.Millisecond))
	require.Equal(t, []event.Token{"old"}, choose(3, now), "one that stays is let be")
	require.Equal(t, []event.Token{"old", "oldest", "young"}, choose(3, now.Add(s.after)), "for a while")
}
