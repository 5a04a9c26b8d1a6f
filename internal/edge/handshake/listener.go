// Package handshake serves the requests with which daemons usually begin, an
// upgrade to WebSocket, without net/http: what that keeps for a connection, two
// buffers of 4 KiB and two goroutines with stacks of their own, is thrown away as
// soon as the connection is taken over, and costs a fifth of a connect.
//
// What is usual is one request that comes at once and has nothing special in it
// (see parse). All else is left to net/http as it came, which alone judges what is
// no request, and keeps its time limits.
//
//	Accept ─▶ read once ─▶ usual ─▶ handler ─▶ taken over
//	                  │                  └────▶ answered ─▶ net/http
//	                  └──▶ anything else ─────────────────▶ net/http
package handshake

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

// mostBytes is the longest request that is looked at, with what may follow it. It
// is what net/http reads at once: that takes all that was read here with its first
// read.
const mostBytes = 4 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, mostBytes); return &b }}

// Listener accepts connections for an HTTP server, without those whose requests it
// serves by itself, with the server's handler. Connections with TLS or a PROXY
// header are the server's in any case.
type Listener struct {
	net.Listener
	server *http.Server
	crew   *lifecycle.Crew
	paths  []string

	begun    sync.Once
	accepted chan accepted // for the server
	closed   chan struct{}
	tasks    sync.WaitGroup

	mu      sync.Mutex
	awaited map[net.Conn]struct{} // those that have said nothing yet; nil: closed
}

type accepted struct {
	conn net.Conn
	err  error
}

// New returns l as a listener for the server, which is to serve it. The crew lends
// its goroutines. Only requests for these paths are served here: their answers are
// short, and no client that takes its time over one holds anything up.
func New(l net.Listener, server *http.Server, crew *lifecycle.Crew, paths ...string) *Listener {
	return &Listener{
		Listener: l, server: server, crew: crew, paths: paths,
		accepted: make(chan accepted), closed: make(chan struct{}), awaited: make(map[net.Conn]struct{}),
	}
}

// Accept returns the next connection for the server.
func (l *Listener) Accept() (net.Conn, error) {
	l.begun.Do(l.begin)
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listening, and the connections that have said nothing yet.
func (l *Listener) Close() error {
	l.mu.Lock()
	awaited := l.awaited
	if l.awaited = nil; awaited != nil {
		close(l.closed)
	}
	l.mu.Unlock()
	err := l.Listener.Close()
	for conn := range awaited {
		_ = conn.Close()
	}
	l.tasks.Wait()
	return err
}

// begin begins to accept, unless Close came first, which waits for all that has
// begun.
func (l *Listener) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.awaited != nil {
		l.tasks.Go(l.accept)
	}
}

func (l *Listener) accept() {
	for {
		conn, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return // the server is told by Close
		}
		if c, ok := conn.(*access.Conn); err == nil && ok {
			l.tasks.Add(1)
			l.crew.Go(func() {
				defer l.tasks.Done()
				l.receive(c)
			})
			continue
		}
		l.give(conn, err) // an error is the server's to wait after
	}
}

// give hands a connection to the server, or closes it where nobody serves any more.
func (l *Listener) give(conn net.Conn, err error) {
	select {
	case l.accepted <- accepted{conn, err}:
	case <-l.closed:
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// receive serves what comes first on a connection, or leaves it to the server.
func (l *Listener) receive(conn *access.Conn) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	by := time.Now().Add(l.server.ReadHeaderTimeout)
	n, ok := l.readOnce(conn, *buffer, by)
	if !ok {
		_ = conn.Close()
		return
	}
	text := string((*buffer)[:n])
	request, length := parse(text)
	if request == nil || !slices.Contains(l.paths, request.URL.Path) {
		l.give(newAhead(conn, text, by), nil)
		return
	}
	a := &answer{conn: conn, rest: text[length:], header: make(http.Header)}
	if !l.serve(a, request) {
		_ = conn.Close()
		return
	}
	if !a.taken {
		l.give(newAhead(conn, a.rest, by), nil)
	}
}

// readOnce reads what comes first.
func (l *Listener) readOnce(conn net.Conn, buffer []byte, by time.Time) (n int, ok bool) {
	l.mu.Lock()
	if l.awaited == nil {
		l.mu.Unlock()
		return 0, false
	}
	l.awaited[conn] = struct{}{}
	l.mu.Unlock()
	_ = conn.SetReadDeadline(by) // it fails on a connection that is gone
	n, err := conn.Read(buffer)
	l.mu.Lock()
	delete(l.awaited, conn)
	l.mu.Unlock()
	if err != nil {
		return 0, false
	}
	return n, conn.SetReadDeadline(time.Time{}) == nil
}

// serve has the handler answer, and reports whether the connection is still of use.
func (l *Listener) serve(a *answer, r *http.Request) (ok bool) {
	defer func() {
		// The handler has noted what it panics over; as with net/http the
		// connection is lost.
		if recover() != nil {
			ok = a.taken
		}
	}()
	r.RemoteAddr = a.conn.RemoteAddr().String()
	l.server.Handler.ServeHTTP(a, r.WithContext(l.server.ConnContext(context.Background(), a.conn)))
	return a.taken || a.flush() == nil
}
