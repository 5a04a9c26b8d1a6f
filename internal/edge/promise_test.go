package edge

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Invariant 1: what a daemon is told that it has subscribed to is passed by nobody, so it
// is told when that is stored; nothing else waits for NATS.
func TestALaterSubscribeIsAnsweredOnceItIsStored(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	d := n.attach("orch", "daemon", `["message.*"]`)
	n.written()
	c.nats.Shutdown()
	d.send("subscribe", `{"eventTypes":["channel.*"]}`)
	d.send("subscribe", `{"eventTypes":["vp.*"],"confirm":true}`)
	d.send("heartbeat", `{}`)
	d.expect(protocol.TypeHeartbeatAck)
	c.nats.Start()
	d.expect(protocol.TypeSubscribed)
	require.True(t, cursor.Covers(c.record("orch").Daemons["daemon"].Subscriptions, []protocol.Subscription{
		{Pattern: "channel.*"}, {Pattern: "message.*"}, {Pattern: "vp.*"},
	}))
}
