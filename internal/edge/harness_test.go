package edge

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const secret settings.Secret = "a-secret-of-the-tests-with-enough-bytes"

// cluster is a NATS server, the log on it, and the edges of one test.
type cluster struct {
	t    testing.TB
	nats *testserver.NATSServer
	log  *eventlog.Log
	nc   *nats.Conn
	join []string
	sent int // events published, for ids
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, nats: testserver.NATS(t)}
	js := c.nats.JetStream()
	c.nc = js.Conn()
	var err error
	c.log, err = eventlog.Open(t.Context(), js, testConfig(c).Log, quiet(), prometheus.NewRegistry())
	require.NoError(t, err)
	return c
}

// testConfig is the production configuration on random ports of the loopback
// interface, with few partitions, and as long for a daemon to do something as
// the test has: a test about such a limit sets it.
func testConfig(c *cluster) Config {
	cfg := settings.Default[Config]()
	cfg.Listen.ListenAddr = "127.0.0.1:0"
	cfg.Admin.AdminAddr = "127.0.0.1:0"
	cfg.Ring.GossipAddr = "127.0.0.1:0"
	cfg.Ring.GossipJoin = c.join
	cfg.NATS.NATSURL = []settings.URL{settings.URL(c.nats.ClientURL())}
	cfg.Log.Partitions = 2
	cfg.Auth.DaemonJWTSecret = secret
	cfg.Listen.DrainPeriod, cfg.ShutdownTimeout = 0, testserver.Patience
	cfg.Sockets.WSAuthTimeout = settings.Milliseconds(testserver.Patience)
	cfg.Sockets.WSHeartbeatInterval = settings.Milliseconds(testserver.Patience)
	cfg.Sockets.WSWriteTimeout = testserver.Patience
	cfg.Delivery.AckTimeout = testserver.Patience
	cfg.Database.Identity.QueryTimeout = testserver.Patience
	return cfg
}

// node is an edge that runs.
type node struct {
	*Edge
	t      testing.TB
	stop   func()  // drains and waits; safe twice
	panics float64 // how many the test provokes
}

func (c *cluster) edge(change ...func(*Config)) *node {
	c.t.Helper()
	cfg := testConfig(c)
	cfg.NodeName = fmt.Sprintf("edge%d", len(c.join))
	for _, f := range change {
		f(&cfg)
	}
	e, err := New(cfg, quiet())
	require.NoError(c.t, err)
	c.join = append(c.join, e.Member().Address)
	n := &node{Edge: e, t: c.t, stop: runEdge(c.t, e)}
	c.t.Cleanup(n.checkPanics)
	require.Eventually(c.t, func() bool { return n.ready() == http.StatusOK }, testserver.Patience, 10*time.Millisecond)
	return n
}

// checkPanics fails a test in which the edge has recovered from others than those
// that the test provokes.
func (n *node) checkPanics() {
	families, err := n.registry.Gather()
	require.NoError(n.t, err)
	found := 0.0
	for _, family := range families {
		if family.GetName() == "gateway_panics_total" {
			for _, m := range family.GetMetric() {
				found += m.GetCounter().GetValue()
			}
		}
	}
	require.Equal(n.t, n.panics, found, "panics")
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// runEdge runs e until the test ends, or stop is called.
func runEdge(t testing.TB, e *Edge) (stop func()) {
	t.Helper()
	e.writeTimeout = testserver.Patience
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the edge ended with: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (n *node) ready() int {
	res, err := http.Get("http://" + n.AdminAddr().String() + "/readyz")
	if err != nil {
		return 0
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func (n *node) url() string { return "ws://" + n.Addr().String() + protocol.Path }

// client is a daemon.
type client struct {
	t    testing.TB
	conn *websocket.Conn
}

func (n *node) dial() *client {
	n.t.Helper()
	return n.dialAt(n.url())
}

func (n *node) dialAt(url string) *client {
	n.t.Helper()
	return n.dialWith(url, nil)
}

func (n *node) dialWith(url string, options *websocket.DialOptions) *client {
	n.t.Helper()
	conn, _, err := websocket.Dial(n.t.Context(), url, options)
	require.NoError(n.t, err)
	conn.SetReadLimit(2 << 20)
	n.t.Cleanup(func() { _ = conn.CloseNow() })
	return &client{t: n.t, conn: conn}
}

// message is a message of the gateway.
type message struct {
	Type    protocol.MessageType `json:"type"`
	ID      string               `json:"id"`
	Payload map[string]any       `json:"payload"`
	Raw     string               `json:"-"`
}

func (m message) text(field string) string {
	s, _ := m.Payload[field].(string)
	return s
}

func token(t testing.TB, g auth.Grant) string {
	t.Helper()
	if g.ExpiresAt.IsZero() {
		g.ExpiresAt = time.Now().Add(time.Hour)
	}
	text, err := auth.Mint(secret, g)
	require.NoError(t, err)
	return text
}

func frameOf(messageType, payload string) string {
	return fmt.Sprintf(`{"type":%q,"id":"m-%s","timestamp":"2026-11-22T10:00:00.000Z","payload":%s}`, messageType, messageType, payload)
}

func (c *client) sendRaw(text string) {
	c.t.Helper()
	require.NoError(c.t, c.conn.Write(c.t.Context(), websocket.MessageText, []byte(text)))
}

func (c *client) send(messageType, payload string) {
	c.t.Helper()
	c.sendRaw(frameOf(messageType, payload))
}

func (c *client) read() (message, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), testserver.Patience)
	defer cancel()
	_, data, err := c.conn.Read(ctx)
	if err != nil {
		return message{}, err
	}
	m := message{Raw: string(data)}
	return m, json.Unmarshal(data, &m)
}

func (c *client) expect(want protocol.MessageType) message {
	c.t.Helper()
	m, err := c.read()
	require.NoError(c.t, err)
	require.Equal(c.t, want, m.Type, m.Raw)
	return m
}

func (c *client) expectFault(code protocol.ErrorCode) message {
	c.t.Helper()
	m := c.expect(protocol.TypeError)
	require.Equal(c.t, string(code), m.text("code"), m.Raw)
	return m
}

// expectClose reads until the connection ends.
func (c *client) expectClose(code protocol.CloseCode) {
	c.t.Helper()
	for {
		_, err := c.read()
		if err != nil {
			require.Equal(c.t, websocket.StatusCode(code), websocket.CloseStatus(err), "%v", err)
			return
		}
	}
}

func authPayload(t testing.TB, orchestrator, daemon string, change ...func(*auth.Grant)) string {
	t.Helper()
	g := auth.Grant{Orchestrator: protocol.OrchestratorID(orchestrator), Daemon: protocol.DaemonID(daemon)}
	for _, f := range change {
		f(&g)
	}
	return fmt.Sprintf(`{"accessToken":%q,"daemonId":%q,"orchestratorId":%q}`, token(t, g), daemon, orchestrator)
}

// login connects and authenticates a daemon.
func (n *node) login(orchestrator, daemon string, change ...func(*auth.Grant)) *client {
	n.t.Helper()
	c := n.dial()
	c.send("auth", authPayload(n.t, orchestrator, daemon, change...))
	c.expect(protocol.TypeAuthSuccess)
	return c
}

// attach is login and a subscribe that has taken effect.
func (n *node) attach(orchestrator, daemon, eventTypes string) *client {
	n.t.Helper()
	c := n.login(orchestrator, daemon)
	c.send("subscribe", `{"eventTypes":`+eventTypes+`}`)
	c.expect(protocol.TypeSubscribed)
	return c
}

const everything = `["*"]`

// stored is an event in the log.
type stored struct {
	id       string
	body     []byte
	token    event.Token
	p        event.Partition
	sequence uint64
}

// publish stores an event; change may alter its fields.
func (c *cluster) publish(orchestrator string, change ...func(*event.Event)) stored {
	c.t.Helper()
	c.sent++
	e := event.Event{
		ID: fmt.Sprintf("event-%d", c.sent), Type: "message.received", OrchestratorID: protocol.OrchestratorID(orchestrator),
		Payload: json.RawMessage(`{"content": "héllo",  "n":1.0}`), RequiresAck: true, Timestamp: "2026-11-22T10:00:00.000Z",
	}
	for _, f := range change {
		f(&e)
	}
	body, err := e.MarshalJSON() // json.Marshal would compact the payload
	require.NoError(c.t, err)
	return c.store(event.TokenOf(orchestrator), e.ID, body)
}

// store publishes an event until the log has it, as its publishers do: a slow
// machine may take longer than the log's limits.
func (c *cluster) store(token event.Token, id string, body []byte) stored {
	c.t.Helper()
	var ack eventlog.Ack
	var err error
	require.Eventually(c.t, func() bool {
		ack, err = c.log.Publish(c.t.Context(), token, id, body)
		return !eventlog.Retryable(err)
	}, testserver.Patience, time.Millisecond)
	require.NoError(c.t, err)
	return stored{id: id, body: body, token: token, p: ack.Partition, sequence: ack.Sequence}
}

// forward does what a router does with an event: it claims that the orchestrator
// has nothing between after and it.
func (c *cluster) forward(n *node, s stored, after uint64) {
	c.t.Helper()
	c.deliver(n, delivery.Batch{Partition: s.p, Epoch: c.log.Epoch(s.p), Events: []delivery.Forwarded{{
		Message: eventlog.Message{Token: s.token, Sequence: s.sequence, Stored: time.Now(), Body: s.body}, After: after,
	}}})
}

func (c *cluster) hint(n *node, s stored) {
	c.t.Helper()
	c.deliver(n, delivery.Batch{Partition: s.p, Epoch: c.log.Epoch(s.p), Hints: []delivery.Hint{{Token: s.token, Sequence: s.sequence}}})
}

// deliver sends a batch and waits for the receipt.
func (c *cluster) deliver(n *node, b delivery.Batch) {
	c.t.Helper()
	subject := delivery.Subject(event.TokenOf(n.Member().Name))
	_, err := c.nc.Request(subject, b.Encode(nil), testserver.Patience)
	require.NoError(c.t, err)
}

// metric returns the sample of a metric as /metrics shows it, "" if there is none.
func (n *node) metric(series string) string {
	n.t.Helper()
	res, err := http.Get("http://" + n.AdminAddr().String() + "/metrics")
	require.NoError(n.t, err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	require.NoError(n.t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// late is a text that is asked for only when it is printed.
type late func() string

func (f late) String() string { return f() }

func (n *node) eventuallyMetric(series, value string) {
	n.t.Helper()
	last := "never asked for"
	require.Eventually(n.t, func() bool { last = n.metric(series); return last == value },
		testserver.Patience, 10*time.Millisecond, "%s is %s, expected %s", series, late(func() string { return last }), value)
}

// silent is a daemon whose machine is gone: the socket is there, nobody reads.
func (n *node) silent() net.Conn {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.Addr().String())
	require.NoError(n.t, err)
	n.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "GET "+protocol.Path+" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
	require.NoError(n.t, err)
	return conn
}

// writeMasked sends a text frame as a client has to, with a mask of zeros.
func writeMasked(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	head := binary.BigEndian.AppendUint16([]byte{0x81, 0x80 | 126}, uint16(len(text)))
	_, err := conn.Write(append(append(head, 0, 0, 0, 0), text...))
	require.NoError(t, err)
}
