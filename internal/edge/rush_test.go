package edge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// When an edge has died its daemons come back to the others at once. What NATS is
// asked then grows with batches: where a connection starts is one question for
// all that wait, and so is where its newest event stands. Only its start is
// written for each orchestrator, a message without an answer of its own to wait
// for.
func TestWhatIsAskedForManyThatComeBackAtOnceGrowsWithBatches(t *testing.T) {
	t.Parallel()
	const daemons = 200
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Listen.RateConnectsPerIP = daemons })
	clients := make([]*client, daemons)
	for i := range clients {
		clients[i] = n.login(fmt.Sprint("vp-", i), "d")
	}
	asked, written := testserver.Listen(t, c.nc, "$JS.API.>"), testserver.Listen(t, c.nc, "$KV.>")
	for _, d := range clients {
		d.send("subscribe", `{"eventTypes":`+everything+`}`)
	}
	for _, d := range clients {
		d.expect(protocol.TypeSubscribed)
	}
	starts := map[string]bool{}
	for len(starts) < daemons {
		m, err := written.NextMsg(testserver.Patience)
		require.NoError(t, err)
		if strings.Contains(m.Subject, ".vp-") {
			starts[m.Subject] = true
		}
	}
	for _, p := range []event.Partition{0, 1} {
		for _, here := range n.hub.inPartition(p) {
			require.Eventually(t, func() bool { return here.position().Sequence > 0 }, testserver.Patience, time.Millisecond)
		}
	}
	require.NoError(t, c.nc.Flush())
	questions, _, err := asked.Pending()
	require.NoError(t, err)
	t.Logf("%d questions for %d daemons", questions, daemons)
	require.Less(t, questions, daemons/2)
}
