package traffic

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// network is a daemon's network connection, which can be left half-open.
type network struct {
	net.Conn
	frozen atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func newNetwork(conn net.Conn) *network { return &network{Conn: conn, closed: make(chan struct{})} }

// freeze lets nothing through any more, and the other side notices nothing.
func (n *network) freeze() { n.frozen.Store(true) }

// Read gives nothing once the connection is frozen, until it is closed.
func (n *network) Read(b []byte) (int, error) {
	for {
		count, err := n.Conn.Read(b)
		switch {
		case !n.frozen.Load():
			return count, err
		case err != nil:
			<-n.closed
			return 0, io.EOF
		}
	}
}

// Write pretends once the connection is frozen.
func (n *network) Write(b []byte) (int, error) {
	if n.frozen.Load() {
		return len(b), nil
	}
	return n.Conn.Write(b)
}

// Close closes the connection, for good.
func (n *network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return n.Conn.Close()
}
