package handshake

import (
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/neolith/daemon-gateway/internal/access"
)

// ahead is a connection of which something was read before. Whoever reads from it
// is the only one.
type ahead struct {
	*access.Conn
	before string
	by     time.Time // when what comes first has to be complete; zero: was said
}

func newAhead(conn *access.Conn, before string, by time.Time) net.Conn {
	if before == "" {
		return conn
	}
	return &ahead{conn, before, by}
}

// NetConn is the connection below, as with tls.Conn.
func (c *ahead) NetConn() net.Conn { return c.Conn }

// Read returns what was read before first.
func (c *ahead) Read(p []byte) (int, error) {
	if c.before == "" {
		return c.Conn.Read(p)
	}
	n := copy(p, c.before)
	c.before = c.before[n:]
	return n, nil
}

// SetReadDeadline implements net.Conn.
func (c *ahead) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(c.deadline(t)) }

// deadline is not later than by for what comes first: the server begins to count
// when it gets the connection.
func (c *ahead) deadline(t time.Time) time.Time {
	if c.by.Before(t) && !c.by.IsZero() {
		t = c.by
	}
	c.by = time.Time{}
	return t
}

// SyscallConn fails while there is something that the descriptor does not have.
func (c *ahead) SyscallConn() (syscall.RawConn, error) {
	if c.before != "" {
		return nil, errors.New("something was read before")
	}
	return c.Conn.SyscallConn()
}
