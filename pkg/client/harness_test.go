package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a network inside the process, so that a test may run in a synctest
// bubble, where time is the test's own.
type memory struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
	held  atomic.Bool
}

func newMemory() *memory { return &memory{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.ended:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.ended) })
	return nil
}

func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case m.conns <- there:
		return muted{here, &m.held}, nil
	case <-m.ended:
	case <-ctx.Done():
	}
	return nil, errors.New("nobody listens")
}

// muted is a connection whose writes get lost once the network is held, as
// those of a machine that has vanished.
type muted struct {
	net.Conn
	held *atomic.Bool
}

func (c muted) Write(b []byte) (int, error) {
	if c.held.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// gateway is a scripted peer: each connection is played by the test.
type gateway struct {
	t       *testing.T
	network *memory
	peers   chan *peer
	// answer, when set, answers an upgrade instead.
	answer func(http.ResponseWriter)
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, network: newMemory(), peers: make(chan *peer)}
	server := &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(g.network) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return g
}

// bubble runs a test with a gateway where time is the test's own.
func bubble(t *testing.T, test func(t *testing.T, g *gateway)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newGateway(t)) })
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.answer != nil {
		g.answer(w)
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	p := &peer{t: g.t, ws: ws, path: r.URL.Path, frames: make(chan protocol.ClientMessage, 1000), closed: make(chan websocket.StatusCode, 1)}
	select {
	case g.peers <- p:
		p.read()
	case <-g.network.ended:
	}
	_ = ws.CloseNow()
}

// connection waits for the client's next connection.
func (g *gateway) connection() *peer {
	g.t.Helper()
	select {
	case p := <-g.peers:
		return p
	case <-time.After(time.Hour):
		require.FailNow(g.t, "the client did not connect")
		return nil
	}
}

// authenticated is the next connection, after its auth and its subscribe.
func (g *gateway) authenticated() *peer {
	g.t.Helper()
	p := g.connection()
	require.IsType(g.t, protocol.Auth{}, p.next())
	p.send(accepted)
	require.IsType(g.t, protocol.Subscribe{}, p.next())
	return p
}

// peer is the gateway's end of one connection.
type peer struct {
	t      *testing.T
	ws     *websocket.Conn
	path   string
	frames chan protocol.ClientMessage
	closed chan websocket.StatusCode
}

func (p *peer) read() {
	p.ws.SetReadLimit(protocol.DefaultMaxMessageBytes)
	for {
		_, data, err := p.ws.Read(context.Background())
		if err != nil {
			p.closed <- websocket.CloseStatus(err)
			close(p.frames)
			return
		}
		m, fault := protocol.ParseClientMessage(data)
		if fault != nil {
			p.t.Errorf("client sent a faulty message: %v", fault)
		}
		p.frames <- m
	}
}

// next waits for the client's next message.
func (p *peer) next() protocol.ClientPayload {
	p.t.Helper()
	select {
	case m, ok := <-p.frames:
		require.True(p.t, ok, "the client closed the connection")
		return m.Payload
	case <-time.After(time.Hour):
		require.FailNow(p.t, "the client did not send anything")
		return nil
	}
}

// nextOf skips messages until one of type T comes.
func nextOf[T protocol.ClientPayload](p *peer) T {
	p.t.Helper()
	for {
		if payload, ok := p.next().(T); ok {
			return payload
		}
	}
}

func (p *peer) send(payloads ...protocol.ServerPayload) {
	p.t.Helper()
	for _, payload := range payloads {
		p.sendText(string(protocol.AppendFrame(nil, time.Now(), payload)))
	}
}

func (p *peer) sendText(text string) {
	p.t.Helper()
	require.NoError(p.t, p.ws.Write(context.Background(), websocket.MessageText, []byte(text)))
}

func (p *peer) close(code protocol.CloseCode) {
	_ = p.ws.Close(websocket.StatusCode(code), code.String())
}

// flood sends events e0, e1, … for as long as the connection lasts.
func (p *peer) flood(events int) {
	go func() {
		for i := range events {
			frame := protocol.AppendFrame(nil, time.Now(), sampleEvent(fmt.Sprintf("e%d", i)))
			if p.ws.Write(context.Background(), websocket.MessageText, frame) != nil {
				return
			}
		}
	}()
}

// awaitClose returns the code with which the client closed.
func (p *peer) awaitClose() protocol.CloseCode {
	p.t.Helper()
	for {
		select {
		case _, ok := <-p.frames:
			if !ok {
				return protocol.CloseCode(<-p.closed)
			}
		case <-time.After(time.Hour):
			require.FailNow(p.t, "the client did not close")
		}
	}
}

var accepted = protocol.AuthSuccess{SessionID: "session", HeartbeatInterval: 30 * time.Second}

func sampleEvent(id string) *protocol.Event {
	return &protocol.Event{EventID: id, EventType: "message.received", Data: []byte(`{}`), RequiresAck: true}
}

// daemon is a client under test with what it told.
type daemon struct {
	t      *testing.T
	client *client.Client
	states chan client.StateChange
	cancel context.CancelFunc
	ended  chan error
}

func config(g *gateway) client.Config {
	return client.Config{
		URLs:           []string{"ws://gateway" + protocol.Path},
		Token:          func(context.Context) (string, error) { return "token-1", nil },
		OrchestratorID: "orchestrator", DaemonID: "daemon",
		Subscriptions: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		Handler:       func(context.Context, protocol.Event) error { return nil },
		DialContext:   g.network.dial,
	}
}

// start runs a client until the test ends. changes may adjust the configuration.
func start(t *testing.T, g *gateway, changes ...func(*client.Config)) *daemon {
	t.Helper()
	cfg := config(g)
	for _, change := range changes {
		change(&cfg)
	}
	d := &daemon{t: t, states: make(chan client.StateChange, 1000), ended: make(chan error, 1)}
	cfg.OnState = func(s client.StateChange) { d.states <- s }
	c, err := client.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	d.client, d.cancel = c, cancel
	go func() { d.ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		_ = g.network.Close()
		d.ended <- <-d.ended
	})
	return d
}

// state waits for the next change to that state.
func (d *daemon) state(s client.State) client.StateChange {
	d.t.Helper()
	for {
		select {
		case got := <-d.states:
			if got.State == s {
				return got
			}
		case <-time.After(time.Hour):
			require.FailNow(d.t, "the client did not become "+string(s))
		}
	}
}

// wait waits for Run to return.
func (d *daemon) wait() error {
	d.t.Helper()
	err := <-d.ended
	d.ended <- err
	return err
}
