package edge

import (
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// isolated is what looks after an edge that loses NATS at a time of the test's
// choosing.
func isolated(n *node) (i *isolation, up *bool) {
	up = new(bool)
	return &isolation{connected: func() bool { return *up }, members: n.directory, door: n.door, logger: n.logger}, up
}

// draining waits until a node sees another one as draining, or not.
func (n *node) draining(other *node, want bool) {
	n.t.Helper()
	require.Eventually(n.t, func() bool {
		for _, m := range n.directory.Members(ring.TierEdge) {
			if m.Name == other.directory.Self().Name {
				return m.Draining == want
			}
		}
		return false
	}, testserver.Patience, 5*time.Millisecond)
}

func TestAnEdgeThatAloneHasLostNATSSendsItsDaemonsElsewhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n, other := c.edge(), c.edge()
	other.draining(n, false)
	d := n.login("orch", "daemon")
	dial := func() int {
		conn, res, err := websocket.Dial(t.Context(), n.url(), nil)
		if err == nil {
			_ = conn.CloseNow()
		}
		return res.StatusCode
	}
	i, up := isolated(n)
	now := time.Now()
	i.look(t.Context(), now)
	i.look(t.Context(), now.Add(lossPatience-1))
	other.draining(n, false)
	i.look(t.Context(), now.Add(lossPatience))
	other.draining(n, true)
	require.Equal(t, http.StatusSwitchingProtocols, dial(), "others may have lost it as well")
	i.look(t.Context(), now.Add(lossPatience+alonePatience))
	require.Equal(t, "draining", d.expect(protocol.TypeReconnect).text("reason"))
	require.Equal(t, http.StatusServiceUnavailable, dial())
	*up = true
	i.look(t.Context(), now.Add(lossPatience+alonePatience+1))
	other.draining(n, false)
	require.Equal(t, http.StatusSwitchingProtocols, dial())
}

// An edge that stood still for long has heard nothing meanwhile of who else has
// lost NATS.
func TestAnEdgeThatStoodStillGivesOthersTimeToSaySo(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n, other := c.edge(), c.edge()
	other.draining(n, false)
	n.draining(other, false)
	i, _ := isolated(n)
	now := time.Now()
	i.look(t.Context(), now)
	i.look(t.Context(), now.Add(time.Hour))
	require.False(t, n.door.isolated.Load())
	other.draining(n, true)
	i.look(t.Context(), now.Add(time.Hour+alonePatience))
	require.True(t, n.door.isolated.Load())
}

// Where no edge has NATS, moving helps nobody.
func TestEdgesThatHaveAllLostNATSKeepTheirDaemons(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	nodes := []*node{c.edge(), c.edge()}
	nodes[0].draining(nodes[1], false)
	nodes[1].draining(nodes[0], false)
	d := nodes[0].login("orch", "daemon")
	var all []*isolation
	for _, n := range nodes {
		i, _ := isolated(n)
		all = append(all, i)
	}
	now := time.Now()
	for _, after := range []time.Duration{0, lossPatience} {
		for _, i := range all {
			i.look(t.Context(), now.Add(after))
		}
	}
	nodes[0].draining(nodes[1], true)
	nodes[1].draining(nodes[0], true)
	for _, i := range all {
		i.look(t.Context(), now.Add(time.Hour))
		require.False(t, i.door.isolated.Load())
	}
	d.alive()
}

// Regression: an edge whose name of NATS led to another cluster within 2 s of its
// start stayed ready there.
func TestAnEdgeIsNotReadyWhereItsStreamsAreNot(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	name := testserver.NATSProxy(t, c.nats)
	n := c.edge(func(cfg *Config) {
		cfg.NATS.NATSURL = []settings.URL{settings.URL(name.URL())}
		cfg.Upkeep.ManageStreams = false
	})
	name.Lead(testserver.NATS(t))
	name.Cut()
	name.Heal()
	require.Eventually(t, func() bool {
		return n.ready() == http.StatusServiceUnavailable && n.nats.Up() && !n.check("nats").Ready
	},
		testserver.Patience, 10*time.Millisecond)
}
