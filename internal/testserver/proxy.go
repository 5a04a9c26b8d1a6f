package testserver

import (
	"net"
	"sync"
	"testing"
)

// Proxy is a network in front of a server: it can be cut, or swallow what is
// sent. Methods may be called at the same time.
type Proxy struct {
	target   string
	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed while data passes
	cut   bool
	conns map[net.Conn]bool
}

// RedisProxy starts a proxy in front of a Redis server.
func RedisProxy(t testing.TB, server *RedisServer) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatalf("start a proxy: %v", err)
	}
	p := &Proxy{target: server.Addr(), listener: listener, open: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(p.open)
	p.work.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.Heal()
		p.Cut()
		p.work.Wait()
	})
	return p
}

// URL is the redis:// URL of the server behind the proxy.
func (p *Proxy) URL() string { return "redis://" + p.listener.Addr().String() }

// Freeze is a network that loses every packet: connections stay, new ones are
// made, and nothing passes.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = make(chan struct{})
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

// Heal ends Freeze and Cut. What was sent meanwhile arrives, as TCP sends it
// again.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
	select {
	case <-p.open:
	default:
		close(p.open)
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
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer p.forget(server)
	if !p.remember(server) {
		return
	}
	p.work.Go(func() {
		p.pass(client, server)
		_ = client.Close()
		_ = server.Close()
	})
	p.pass(server, client)
}

func (p *Proxy) pass(from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		<-p.gate()
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

func (p *Proxy) gate() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
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
