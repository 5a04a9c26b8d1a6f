package edge

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/edge/conversation"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// expectCut expects that the connection breaks without a close frame.
func (c *client) expectCut() {
	c.t.Helper()
	_, err := c.read()
	require.Error(c.t, err)
	require.Equal(c.t, websocket.StatusCode(-1), websocket.CloseStatus(err), "%v", err)
}

// panicking is a request whose connection cannot be taken over without a panic.
type panicking struct{ http.ResponseWriter }

func (panicking) Hijack() (net.Conn, *bufio.ReadWriter, error) { panic("in an upgrade") }

// Regression: net/http recovers in its own goroutines, and an upgrade runs in
// another one, so that a panic there ended the edge.
func TestAPanicInAnUpgradeEndsItAlone(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	n.panics = 1
	d := n.attach("orch", "d", everything)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.door.upgrade(panicking{w}, r) }))
	t.Cleanup(front.Close)
	_, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(front.URL, "http"), nil)
	require.Error(t, err)
	n.eventuallyMetric(`gateway_panics_total{part="socket"}`, "1")
	d.send("heartbeat", `{}`)
	d.expect(protocol.TypeHeartbeatAck)
	require.Eventually(t, func() bool { return n.door.count() == 1 }, testserver.Patience, time.Millisecond, "the upgrade holds no place")
}

// verifierThatPanics does so for one daemon.
type verifierThatPanics struct{ conversation.Verifier }

func (v verifierThatPanics) CheckClaimed(id auth.Identity, orchestrator protocol.OrchestratorID, daemon protocol.DaemonID) error {
	if daemon == "panic" {
		panic("in a message")
	}
	return v.Verifier.CheckClaimed(id, orchestrator, daemon)
}

func TestAPanicOverADaemonsMessageEndsItsConnectionAlone(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	n.panics = 1
	services := *n.door.services.Load()
	talk := *services.talk
	talk.Verifier = verifierThatPanics{talk.Verifier}
	services.talk = &talk
	n.door.services.Store(&services)
	d := n.attach("orch", "d", everything)
	broken := n.dial()
	broken.send("auth", authPayload(t, "orch", "panic"))
	broken.expectCut()
	n.eventuallyMetric(`gateway_panics_total{part="connection"}`, "1")
	d.send("heartbeat", `{}`)
	d.expect(protocol.TypeHeartbeatAck)
	require.Eventually(t, func() bool { return n.door.count() == 1 }, testserver.Patience, time.Millisecond)
}

// What a session that has broken says is not believed: its daemon is sent again
// what it has not been seen to acknowledge.
func TestAPanicOverAnEventEndsAConnectionAloneAndLosesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	n.panics = 1
	d, other := n.attach("orch", "d", everything), n.attach("other", "d", everything)
	first := c.publish("orch")
	c.forward(n, first, 0)
	require.Equal(t, first.id, d.expect(protocol.TypeEvent).text("eventId"))
	n.hub.connections("orch")[0].forwarded(c.log.Epoch(first.p), nil, first.sequence)
	d.expectCut()
	n.eventuallyMetric(`gateway_panics_total{part="connection"}`, "1")
	n.knows("orch", 0)
	require.Empty(t, n.hub.connections("orch"))

	e := c.publish("other")
	c.forward(n, e, 0)
	other.expectEvents(e)
	second := c.publish("orch")
	again := n.attach("orch", "d", everything)
	again.expectEvents(first, second)
}
