package edge

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestAnEventIsRepeatedAndAtLastGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) {
		cfg.Delivery.AckTimeout = 100 * time.Millisecond
		cfg.Delivery.MaxDeliveries = 3
	})
	d := n.attach("orch", "daemon", everything)
	poison := c.publish("orch")
	c.forward(n, poison, 0)
	for i := range 3 {
		m := d.expect(protocol.TypeEvent)
		require.Equal(t, poison.id, m.text("eventId"))
		require.Equal(t, i > 0, m.Payload["redelivered"] == true)
	}
	n.eventuallyMetric(`gateway_edge_events_total{outcome="dead_lettered"}`, "1")
	n.eventuallyMetric(`ws_events_total{status="success",type="redelivered"}`, "2")
	js, err := jetstream.New(c.nc)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), eventlog.DeadletterStream)
	require.NoError(t, err)
	letter, err := stream.GetLastMsgForSubject(t.Context(), eventlog.DeadLetterSubject(event.ReasonUndelivered, poison.token))
	require.NoError(t, err)
	var record eventlog.DeadLetterRecord
	require.NoError(t, json.Unmarshal(letter.Data, &record))
	require.Equal(t, protocol.DaemonID("daemon"), record.Daemon)
	require.Equal(t, poison.sequence, record.Sequence)
	require.False(t, record.SettledElsewhere)
	require.Equal(t, string(poison.body), record.Body)

	next := c.publish("orch")
	c.forward(n, next, poison.sequence)
	d.expectEvents(next)
}

// cut ends the connection without a close frame, and waits until the edge has
// written the cursor.
func (c *client) cut(n *node) {
	c.t.Helper()
	require.NoError(c.t, c.conn.CloseNow())
	require.Eventually(c.t, func() bool { return n.door.count() == 0 }, testserver.Patience, 5*time.Millisecond)
}

// A rolling restart used to send what a daemon was working on to the dead
// letters.
func TestADaemonThatMovesGracefullyLosesNothingInWork(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Delivery.MaxDeliveries = 2 })
	work := c.publish("orch")
	for range 5 {
		d := n.attach("orch", "daemon", everything)
		require.Equal(t, work.id, d.expect(protocol.TypeEvent).text("eventId"))
		d.leave(n)
	}
	require.Equal(t, "0", n.metric(`gateway_edge_events_total{outcome="dead_lettered"}`))
}

// An event that crashes its daemon used to take those before it to the dead
// letters with it.
func TestAnEventThatCrashesItsDaemonIsGivenUpAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Delivery.MaxDeliveries = 3 })
	good, poison, last := c.publish("orch"), c.publish("orch"), c.publish("orch")
	// live reads until the poison crashes the daemon, or the last event comes.
	live := func(ackGood bool) (got []string, crashed bool) {
		d := n.attach("orch", "daemon", everything)
		for {
			id := d.expect(protocol.TypeEvent).text("eventId")
			got = append(got, id)
			switch {
			case id == poison.id:
				d.cut(n)
				return got, true
			case id == good.id && ackGood:
				d.ack(good)
			case id == last.id:
				return got, false
			}
		}
	}
	for range 2 {
		got, crashed := live(false) // the good one is being worked on when the poison crashes the daemon
		require.True(t, crashed)
		require.Equal(t, []string{good.id, poison.id}, got)
	}
	for crashes := 2; ; crashes++ {
		require.LessOrEqual(t, crashes, 5)
		if got, crashed := live(true); !crashed {
			require.Equal(t, []string{last.id}, got)
			break
		}
	}
	n.eventuallyMetric(`gateway_edge_events_total{outcome="dead_lettered"}`, "1")
}

// dialNarrow is dial for a daemon whose machine takes little that it does not read.
func (n *node) dialNarrow() *client {
	n.t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return conn, err
	}}
	n.t.Cleanup(transport.CloseIdleConnections)
	return n.dialWith(n.url(), &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
}

// What crashes its daemon as soon as it comes does so while the edge is still writing
// what is behind it. No try of it was counted, and it crashed its daemon for ever.
func TestAnEventThatCrashesItsDaemonBeforeTheRestHasComeIsGivenUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Delivery.MaxDeliveries = 3 })
	poison := c.publish("orch")
	for range 4 {
		c.publish("orch", func(e *event.Event) { e.Payload = json.RawMessage(`{"text":"` + strings.Repeat("x", 200<<10) + `"}`) })
	}
	for crashes := 0; ; crashes++ {
		require.LessOrEqual(t, crashes, 3)
		d := n.dialNarrow()
		d.send("auth", authPayload(t, "orch", "daemon"))
		d.send("subscribe", `{"eventTypes":["*"]}`)
		d.expect(protocol.TypeAuthSuccess)
		d.expect(protocol.TypeSubscribed)
		if d.expect(protocol.TypeEvent).text("eventId") != poison.id {
			break
		}
		d.cut(n)
	}
	n.eventuallyMetric(`gateway_edge_events_total{outcome="dead_lettered"}`, "1")
}

// readOn answers pings until the connection ends.
func (c *client) readOn() {
	for {
		if _, _, err := c.conn.Read(c.t.Context()); err != nil {
			return
		}
	}
}

// A link that broke while an event was on its way used to count against the event,
// though its daemon had never received it.
func TestAnEventThatNeverCameIsNotGivenUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Delivery.MaxDeliveries = 3 })
	link := testserver.EdgeProxy(t, n.Addr().String())
	work := c.publish("orch")
	given, sent := `gateway_edge_events_total{outcome="dead_lettered"}`, `gateway_edge_events_total{outcome="sent"}`
	again := `gateway_edge_events_total{outcome="redelivered"}`
	var reading sync.WaitGroup
	for tries := range 6 {
		d := n.dialAt(link.URL() + protocol.Path)
		link.HoldAnswersAt(work.id)
		d.send("auth", authPayload(t, "orch", "daemon"))
		d.send("subscribe", `{"eventTypes":["*"]}`)
		reading.Go(d.readOn)
		require.Eventually(t, func() bool {
			return n.metric(given) != "0" || n.metric(sent) == "1" && n.metric(again) == strconv.Itoa(tries)
		}, testserver.Patience, 5*time.Millisecond)
		require.Equal(t, "0", n.metric(given))
		link.Cut()
		reading.Wait()
		require.Eventually(t, func() bool { return n.door.count() == 0 }, testserver.Patience, 5*time.Millisecond)
		link.Heal()
	}
	d := n.attach("orch", "daemon", everything)
	d.expectEvents(work)
	require.Equal(t, "0", n.metric(`gateway_edge_events_total{outcome="dead_lettered"}`))
}
