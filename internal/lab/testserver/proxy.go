package testserver

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// Proxy is a network in front of a server: it can be cut, or swallow what is
// sent. Methods may be called at the same time.
type Proxy struct {
	scheme   string
	listener net.Listener
	work     sync.WaitGroup

	mu      sync.Mutex
	target  string
	open    chan struct{} // closed while what clients send passes
	answers chan struct{} // closed while what the server sends passes
	until   string        // where it says so, it passes no more; empty: it may say anything
	cut     bool
	conns   map[net.Conn]bool
}

// RedisProxy starts a proxy in front of a Redis server.
func RedisProxy(t testing.TB, server *RedisServer) *Proxy {
	t.Helper()
	return newProxy(t, "redis", server.Addr())
}

// NATSProxy starts a proxy in front of a NATS server. A client keeps to it, since
// the server does not know of it.
func NATSProxy(t testing.TB, server *NATSServer) *Proxy {
	t.Helper()
	return newProxy(t, "nats", server.Addr())
}

// EdgeProxy starts a proxy in front of the edge whose daemons connect to the address.
func EdgeProxy(t testing.TB, address string) *Proxy {
	t.Helper()
	return newProxy(t, "ws", address)
}

func newProxy(t testing.TB, scheme, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatalf("start a proxy: %v", err)
	}
	p := &Proxy{scheme: scheme, listener: listener, target: target, open: passing(), answers: passing(), conns: map[net.Conn]bool{}}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.Heal()
		p.Cut()
		p.work.Wait()
	})
	return p
}

// URL is where clients connect instead of to the server.
func (p *Proxy) URL() string { return p.scheme + "://" + p.listener.Addr().String() }

// passing is the gate of a network that works.
func passing() chan struct{} {
	gate := make(chan struct{})
	close(gate)
	return gate
}

// Freeze is a network that loses every packet: connections stay, new ones are
// made, and nothing passes.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open, p.answers = make(chan struct{}), make(chan struct{})
}

// HoldAnswers lets pass what clients send, and keeps what the server sends: a
// server that does all it is told, and answers after Heal, or never if Cut comes
// before.
func (p *Proxy) HoldAnswers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = make(chan struct{})
}

// HoldAnswersAt is HoldAnswers as soon as the server says the text, which does not
// pass, nor what comes with it.
func (p *Proxy) HoldAnswersAt(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = text
}

// Lead has new connections lead to another server, as a name that is resolved to
// another address does. Those that there are stay.
func (p *Proxy) Lead(server interface{ Addr() string }) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = server.Addr()
}

// Cut closes all connections, and new ones at once.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// Heal ends the others. What was sent meanwhile arrives, as TCP sends it again,
// on connections that were not cut.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.until = false, ""
	for _, gate := range []chan struct{}{p.open, p.answers} {
		select {
		case <-gate:
		default:
			close(gate)
		}
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.connect(client) })
	}
}

func (p *Proxy) connect(client net.Conn) {
	defer p.forget(client)
	if !p.remember(client) {
		return
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer p.forget(server)
	if !p.remember(server) {
		return
	}
	p.work.Go(func() {
		p.pass(client, server, &p.open)
		_ = client.Close()
		_ = server.Close()
	})
	p.pass(server, client, &p.answers)
}

func (p *Proxy) pass(from, to net.Conn, gate *chan struct{}) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		<-p.at(gate, buffer[:n])
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// at returns the gate before which something is that was said.
func (p *Proxy) at(gate *chan struct{}, said []byte) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if gate == &p.answers && p.until != "" && bytes.Contains(said, []byte(p.until)) {
		p.answers, p.until = make(chan struct{}), ""
	}
	return *gate
}

func (p *Proxy) remember(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = true
	return !p.cut
}

func (p *Proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = conn.Close()
	delete(p.conns, conn)
}
