package edge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// knows waits until the node's directory shows so many connections.
func (n *node) knows(orchestrator string, connections int) {
	n.t.Helper()
	require.Eventually(n.t, func() bool {
		return len(n.directory.Holdings(event.TokenOf(orchestrator))) == connections
	}, testserver.Patience, 5*time.Millisecond)
}

// alive keeps a daemon answering pings.
func (c *client) alive() *client {
	go func() {
		for {
			if _, _, err := c.conn.Read(c.t.Context()); err != nil {
				return
			}
		}
	}()
	return c
}

func TestTheConnectionLimitHoldsOverTheCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	two := func(cfg *Config) { cfg.Sockets.WSMaxConnectionsPerVP = 2 }
	first, second := c.edge(two), c.edge(two)
	first.login("orch", "a").alive()
	second.knows("orch", 1)
	second.login("orch", "b").alive()
	first.knows("orch", 2)

	refused := first.dial()
	refused.send("auth", authPayload(t, "orch", "c"))
	require.Equal(t, string(protocol.AuthMaxConnections), refused.expect(protocol.TypeAuthError).text("code"))
	refused.expectClose(protocol.CloseSessionTerminated)

	// The same daemon again is no further connection, wherever it lands.
	old := first.login("orch-2", "a")
	second.knows("orch-2", 1)
	second.login("orch-2", "a").alive()
	old.expectClose(protocol.CloseSessionTerminated)
	second.knows("orch-2", 1)
}

// A machine that vanished leaves sockets that look connected for long: they
// must not lock its orchestrator out, on whichever edge they are.
func TestHalfOpenSocketsMakeRoomForANewcomer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	two := func(cfg *Config) { cfg.Sockets.WSMaxConnectionsPerVP = 2 }
	first, second := c.edge(two), c.edge(two)
	writeMasked(t, first.silent(), frameOf("auth", authPayload(t, "orch", "a")))
	first.login("orch", "b").alive()
	second.knows("orch", 2)
	second.login("orch", "c").alive()
	first.knows("orch", 2)
	first.eventuallyMetric(`gateway_edge_terminations_total{reason="silent"}`, "1")
}

func TestADaemonIDThatIsFoughtOver(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	last := n.login("orch", "daemon")
	for range maxTakeovers {
		next := n.login("orch", "daemon")
		last.expectClose(protocol.CloseSessionTerminated)
		last = next
	}
	last.alive()
	newcomer := n.dial()
	newcomer.send("auth", authPayload(t, "orch", "daemon"))
	require.InDelta(t, 30000, newcomer.expect(protocol.TypeReconnect).Payload["delay"], 0)
	newcomer.expectClose(protocol.CloseSessionTerminated)
	n.eventuallyMetric(`gateway_edge_terminations_total{reason="fight"}`, "1")
	n.eventuallyMetric(`gateway_connections{state="authenticated"}`, "1")
}

func TestDrain(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(slowDrain)
	other := c.edge()
	d := n.attach("orch", "daemon", everything)
	idle := n.attach("orch-2", "daemon", everything)
	unacked := c.publish("orch")
	c.forward(n, unacked, 0)
	d.expect(protocol.TypeEvent)

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		n.stop()
	}()
	require.Equal(t, "draining", d.expect(protocol.TypeReconnect).text("reason"))
	idle.expect(protocol.TypeReconnect)
	require.Equal(t, http.StatusServiceUnavailable, n.ready())
	_, res, err := websocket.Dial(t.Context(), n.url(), nil)
	require.Error(t, err)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.NotEmpty(t, res.Header.Get("Retry-After"))
	require.Eventually(t, func() bool {
		for _, m := range other.directory.Members(ring.TierEdge) {
			if m.Name == n.Member().Name {
				return m.Draining
			}
		}
		return false
	}, testserver.Patience, 5*time.Millisecond)

	meanwhile := c.publish("orch")
	c.forward(n, meanwhile, unacked.sequence)
	require.Equal(t, meanwhile.id, d.expect(protocol.TypeEvent).text("eventId"), "delivery goes on")
	d.ack(meanwhile)
	require.NoError(t, d.conn.Close(websocket.StatusNormalClosure, ""))
	require.NoError(t, idle.conn.Close(websocket.StatusNormalClosure, ""))
	<-stopped
	other.knows("orch-2", 0)

	again := other.login("orch", "daemon")
	again.send("subscribe", `{"eventTypes":["*"]}`)
	again.expect(protocol.TypeSubscribed)
	m := again.expect(protocol.TypeEvent)
	require.Equal(t, unacked.id, m.text("eventId"))
	require.Equal(t, true, m.Payload["redelivered"])
	next := c.publish("orch")
	c.forward(other, next, meanwhile.sequence)
	require.Equal(t, next.id, again.expect(protocol.TypeEvent).text("eventId"), "what was acknowledged in the drain does not come again")
}

// slowDrain has a drain last longer than a test, unless everybody has gone.
func slowDrain(cfg *Config) { cfg.Listen.DrainPeriod, cfg.ShutdownTimeout = time.Hour, 2*time.Hour }

func TestWhoStaysThroughADrainIsClosed(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	d := n.attach("orch", "daemon", everything)
	go n.stop()
	d.expect(protocol.TypeReconnect)
	d.expectClose(protocol.CloseGoingAway)
}

func TestADrainOfAnEmptyEdgeEndsAtOnce(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge(slowDrain)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		n.stop()
	}()
	select {
	case <-stopped:
	case <-time.After(testserver.Patience):
		require.Fail(t, "an edge without connections waits")
	}
}

func TestAnEdgeSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.nats.Shutdown()
	cfg := testConfig(c)
	e, err := New(cfg, quiet())
	require.NoError(t, err)
	stop := runEdge(t, e)
	readiness := func() (status int, checks map[string]struct{ Ready bool }) {
		res, err := http.Get("http://" + e.AdminAddr().String() + "/readyz")
		if err != nil {
			return 0, nil
		}
		defer func() { _ = res.Body.Close() }()
		var body struct {
			Checks map[string]struct{ Ready bool }
		}
		require.NoError(t, json.NewDecoder(res.Body).Decode(&body))
		return res.StatusCode, body.Checks
	}
	require.Eventually(t, func() bool { status, _ := readiness(); return status != 0 }, testserver.Patience, 5*time.Millisecond)
	status, checks := readiness()
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.False(t, checks["nats"].Ready)
	require.False(t, checks["log"].Ready)
	_, res, err := websocket.Dial(t.Context(), "ws://"+e.Addr().String()+protocol.Path, nil)
	require.Error(t, err)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	c.nats.Start()
	require.Eventually(t, func() bool { status, _ := readiness(); return status == http.StatusOK }, testserver.Patience, 10*time.Millisecond)
	stop()
}

func TestAnEdgeThatNeverBeganStops(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.nats.Shutdown()
	e, err := New(testConfig(c), quiet())
	require.NoError(t, err)
	runEdge(t, e)()
}

func TestPlainRequests(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	for _, path := range []string{protocol.Path, protocol.PathAlias} {
		res, err := http.Get("http://" + n.Addr().String() + path)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusUpgradeRequired, res.StatusCode)
		require.Equal(t, "application/json", res.Header.Get("Content-Type"))
		require.JSONEq(t, `{"error":"this is a WebSocket endpoint: connect with an upgrade","protocol":"neolith-daemon","version":2,"paths":["/daemon/ws","/api/daemon/ws"]}`, string(body))
		conn, _, err := websocket.Dial(t.Context(), "ws://"+n.Addr().String()+path, nil)
		require.NoError(t, err)
		require.NoError(t, conn.CloseNow())
	}
}

func TestAFullEdgeAndTooManyConnects(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	full := c.edge(func(cfg *Config) { cfg.Listen.MaxConnections = 1 })
	late := full.dial()
	full.login("orch", "d")
	_, res, err := websocket.Dial(t.Context(), full.url(), nil)
	require.Error(t, err)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.NotEmpty(t, res.Header.Get("Retry-After"))
	late.send("auth", authPayload(t, "orch", "e"))
	require.Equal(t, "this edge is full", late.expect(protocol.TypeReconnect).text("reason"))
	late.expectClose(protocol.CloseGoingAway)

	slow := c.edge(func(cfg *Config) { cfg.Listen.RateConnectsPerIP = 1 })
	require.Eventually(t, func() bool {
		slow.useUpConnects()
		conn, res, err := websocket.Dial(t.Context(), slow.url(), nil)
		if err != nil {
			return res != nil && res.StatusCode == http.StatusTooManyRequests && res.Header.Get("Retry-After") != ""
		}
		_ = conn.CloseNow()
		return false // so slow that it may connect again
	}, testserver.Patience, time.Millisecond)
}

func TestManyDaemonsComeAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	const daemons = 200
	events := make([]stored, daemons)
	for i := range events {
		events[i] = c.publish(fmt.Sprintf("orch-%d", i))
	}
	done := make(chan error, daemons)
	for i := range daemons {
		go func() {
			done <- func() error {
				conn, _, err := websocket.Dial(t.Context(), n.url(), nil)
				if err != nil {
					return err
				}
				defer func() { _ = conn.CloseNow() }()
				d := &client{t: t, conn: conn}
				orchestrator := fmt.Sprintf("orch-%d", i)
				for _, text := range []string{frameOf("auth", authPayload(t, orchestrator, "d")), frameOf("subscribe", `{"eventTypes":["*"]}`)} {
					if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
						return err
					}
				}
				for {
					m, err := d.read()
					if err != nil {
						return err
					}
					if m.Type == protocol.TypeEvent {
						if m.text("eventId") != events[i].id {
							return fmt.Errorf("%s got %s, expected %s", orchestrator, m.text("eventId"), events[i].id)
						}
						return nil
					}
				}
			}()
		}()
	}
	for range daemons {
		require.NoError(t, <-done)
	}
}
