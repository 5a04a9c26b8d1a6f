package natsconn

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// giveUpLooks looks without a word from the server, lookInterval apart, end a
	// connection. The server answers a ping each pingInterval, so that one that
	// lives is heard of several times meanwhile. Looks are counted and not time: a
	// process that stood still has not listened either.
	lookInterval = 250 * time.Millisecond
	giveUpLooks  = 14
)

// errSilent is what reads and writes return after a connection was given up.
var errSilent = errors.New("the NATS server has been silent for " + (giveUpLooks * lookInterval).String())

// dialer makes the sockets of a connection, and knows the newest.
type dialer struct {
	net.Dialer
	newest atomic.Pointer[socket]
	failed func(address string, err error)
}

// Dial is for nats.SetCustomDialer. TLS is added by the library, on top.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := d.Dialer.Dial(network, address)
	if err != nil {
		d.failed(address, err)
		return nil, err
	}
	s := watch(conn)
	d.newest.Store(s)
	return s, nil
}

// silent reports whether the newest socket was given up.
func (d *dialer) silent() bool {
	s := d.newest.Load()
	return s != nil && s.givenUp.Load()
}

// socket closes itself when nothing has come from the server for a while. The
// library notices a silent server by pings that are not answered, but it writes,
// pings included, with the lock of the whole connection held: once the buffers
// of a server that does not read are full, everything that wants the lock stands
// still with that write. To close the socket ends it, whatever it waits for.
type socket struct {
	net.Conn
	heard   atomic.Bool // something has come since the last look
	givenUp atomic.Bool

	mu     sync.Mutex
	looks  int // in a row that have heard nothing
	closed bool
	timer  *time.Timer
}

func watch(conn net.Conn) *socket {
	s := &socket{Conn: conn}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(lookInterval, s.look)
	return s
}

func (s *socket) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.looks++; s.heard.Swap(false) {
		s.looks = 0
	}
	if s.looks == giveUpLooks {
		s.givenUp.Store(true)
		_ = s.Conn.Close() // what waits for it returns
		return
	}
	s.timer.Reset(lookInterval)
}

func (s *socket) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if n > 0 {
		s.heard.Store(true)
	}
	return n, s.explain(err)
}

func (s *socket) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	return n, s.explain(err)
}

func (s *socket) explain(err error) error {
	if err != nil && s.givenUp.Load() {
		return fmt.Errorf("%w: %w", errSilent, err)
	}
	return err
}

// Close ends the watch as well.
func (s *socket) Close() error {
	s.mu.Lock()
	s.closed = true
	s.timer.Stop()
	s.mu.Unlock()
	return s.Conn.Close()
}
