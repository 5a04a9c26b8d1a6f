// Package balancer is a small TCP load balancer that stands for the one in front
// of the edges: it gives each connection to the server that has the fewest. It
// knows nothing of what is said over them.
package balancer

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// Balancer spreads connections over servers. Its methods may be called at the
// same time.
type Balancer struct {
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond // on mu
	servers []*server  // guarded by mu
	open    map[net.Conn]struct{}
	closed  bool
}

// server is guarded by its balancer's mu.
type server struct {
	address string
	out     bool // takes no new connections
	conns   int
	// silent is how many of them the server has not answered on yet.
	silent int
}

// Start listens on a free port and spreads what comes over the addresses
// (host:port).
func Start(addresses ...string) (*Balancer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the load balancer: %w", err)
	}
	b := &Balancer{listener: l, open: make(map[net.Conn]struct{})}
	b.changed = sync.NewCond(&b.mu)
	for _, a := range addresses {
		b.servers = append(b.servers, &server{address: a})
	}
	b.running.Go(b.accept)
	return b, nil
}

// Address is where it listens (host:port).
func (b *Balancer) Address() string { return b.listener.Addr().String() }

// Close ends every connection and waits for their ends.
func (b *Balancer) Close() error {
	err := b.listener.Close()
	b.mu.Lock()
	b.closed = true
	for c := range b.open {
		_ = c.Close()
	}
	b.mu.Unlock()
	b.running.Wait()
	return err
}

// TakeOut gives a server no more connections, as load balancers do before a
// server is stopped, and waits until it has answered on all that it has.
func (b *Balancer) TakeOut(ctx context.Context, address string) error {
	defer context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.changed.Broadcast()
	})()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.findLocked(address)
	s.out = true
	for s.silent > 0 {
		if ctx.Err() != nil {
			return fmt.Errorf("take %s out of the load balancer: %d connections are not answered: %w", address, s.silent, context.Cause(ctx))
		}
		b.changed.Wait()
	}
	return nil
}

// PutIn gives a server connections again.
func (b *Balancer) PutIn(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.findLocked(address).out = false
}

// Connections returns how many connections a server has.
func (b *Balancer) Connections(address string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.findLocked(address).conns
}

// findLocked returns the server of an address; mu is held.
func (b *Balancer) findLocked(address string) *server {
	for _, s := range b.servers {
		if s.address == address {
			return s
		}
	}
	panic("no server " + address)
}

func (b *Balancer) accept() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() { b.serve(client) })
	}
}

func (b *Balancer) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	s := b.choose()
	if s == nil {
		return
	}
	answered := sync.OnceFunc(func() { b.update(func() { s.silent-- }) })
	defer b.update(func() { s.conns-- })
	defer answered()
	upstream, err := net.Dial("tcp", s.address)
	if err != nil {
		return
	}
	defer func() { _ = upstream.Close() }()
	if !b.enter(client, upstream) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { forward(upstream, client, nil) })
	both.Go(func() { forward(client, upstream, answered) })
	both.Wait()
	b.leave(client, upstream)
}

// choose returns the server with the fewest connections, with a place taken
// there; nil if all are out.
func (b *Balancer) choose() *server {
	b.mu.Lock()
	defer b.mu.Unlock()
	var best *server
	for _, s := range b.servers {
		if !s.out && (best == nil || s.conns < best.conns) {
			best = s
		}
	}
	if best != nil {
		best.conns++
		best.silent++
	}
	return best
}

func (b *Balancer) update(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	b.changed.Broadcast()
}

// enter notes connections for Close; false after it.
func (b *Balancer) enter(conns ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range conns {
		b.open[c] = struct{}{}
	}
	return !b.closed
}

func (b *Balancer) leave(conns ...net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range conns {
		delete(b.open, c)
	}
}

// forward copies one way until that way ends, and says so to the other side.
// heard is called at the first bytes.
func forward(to, from net.Conn, heard func()) {
	if heard != nil {
		first := make([]byte, 4096)
		n, err := from.Read(first)
		heard()
		if _, writeErr := to.Write(first[:n]); err == nil {
			err = writeErr
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
	_, _ = io.Copy(to, from)
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}
