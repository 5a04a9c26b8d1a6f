package access

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/pires/go-proxyproto"
)

// listener accepts whom the rules let in.
type listener struct {
	net.Listener
	control *Control
}

// Accept closes at once, without reading, what may not connect.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			l.control.notAccepted(err)
			return nil, err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return conn, nil
		}
		c, refusal := l.control.enter(tcp)
		if refusal == "" {
			return c, nil
		}
		l.control.refused(refusal, peerAddress(tcp.RemoteAddr().String()))
		_ = tcp.SetLinger(0) // nothing stays behind of a flood
		_ = tcp.Close()
	}
}

// notAccepted says that connections wait because the process has too many files
// open. net/http tries again, and says so only at debug, with what clients do wrong.
func (a *Control) notAccepted(err error) {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		a.exhausted.Do(func() {
			a.logger.Error("no connection can be accepted: too many open files, expected a limit (ulimit -n) well above MAX_CONNECTIONS", "error", err)
		})
	}
}

// Conn is a connection that was accepted. It counts from then on, among those
// of its address until it is closed, and among those that have not
// authenticated until it has. Its methods may be called at any time, and on a
// nil one, which counts nowhere.
type Conn struct {
	*net.TCPConn
	control *Control

	proxied bool       // for whom, a proxy says
	counted bool       // guarded by control.mu
	network netip.Addr // what it counts for, if it is counted; guarded by control.mu
	place   *place     // among those waiting; nil: not or no longer; guarded by control.mu
	gone    bool       // guarded by control.mu
}

// enter takes a connection in, or says why not. Where too many wait, one of them
// has to go for it.
func (a *Control) enter(tcp *net.TCPConn) (*Conn, Refusal) {
	addr := peerAddress(tcp.RemoteAddr().String())
	proxied := a.trusts(addr)
	if !proxied && !a.Permits(addr) {
		return nil, RefusedAddress
	}
	c := &Conn{TCPConn: tcp, control: a, proxied: proxied}
	a.mu.Lock()
	if !proxied && !a.countLocked(c, addr) {
		a.mu.Unlock()
		return nil, RefusedConnections
	}
	a.waiting.add(c, c.network) // of a proxy's, nobody has said yet
	var surplus *Conn
	if a.waiting.count > a.cfg.MaxUnauthenticated {
		surplus = a.waiting.next()
		a.waiting.remove(surplus)
	}
	a.mu.Unlock()
	if surplus != nil {
		a.refused(RefusedUnauthenticated, peerAddress(surplus.RemoteAddr().String()))
		_ = surplus.Close()
	}
	return c, ""
}

// countLocked counts the connection for an address, if that may have one more.
// a.mu is held.
func (a *Control) countLocked(c *Conn, addr netip.Addr) bool {
	n := Network(addr)
	if a.held[n] >= a.cfg.MaxConnectionsPerIP {
		return false
	}
	a.held[n]++
	c.network, c.counted = n, true
	return true
}

// uncountLocked takes back countLocked. a.mu is held.
func (a *Control) uncountLocked(c *Conn) {
	if !c.counted {
		return
	}
	c.counted = false
	if a.held[c.network]--; a.held[c.network] == 0 {
		delete(a.held, c.network)
	}
}

// waitsFor says for whom a proxy has made the connection, while it waits.
func (c *Conn) waitsFor(addr netip.Addr) {
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	c.control.waiting.move(c, Network(addr))
}

// Belongs says whose connection it is now, where a proxy has made it, which may
// have used it for others before. It reports false if that address has as many as
// it may.
func (c *Conn) Belongs(addr netip.Addr) bool {
	if c == nil {
		return true
	}
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	if c.gone || !c.proxied {
		return true
	}
	c.control.uncountLocked(c)
	c.control.waiting.move(c, Network(addr))
	return c.control.countLocked(c, addr)
}

// Authenticated says that somebody has authenticated on the connection, which
// is not closed for others' sake from then on.
func (c *Conn) Authenticated() {
	if c == nil {
		return
	}
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	c.control.waiting.remove(c)
}

// Used says that somebody with a right to it has used the connection just now,
// which may wait unused from then on: all others of its network go before it.
func (c *Conn) Used() {
	if c == nil {
		return
	}
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	c.control.waiting.use(c)
}

// Close ends the connection, which counts no more.
func (c *Conn) Close() error {
	c.control.mu.Lock()
	if !c.gone {
		c.gone = true
		c.control.waiting.remove(c)
		c.control.uncountLocked(c)
	}
	c.control.mu.Unlock()
	return c.TCPConn.Close()
}

// Waiting returns how many connections have not authenticated.
func (a *Control) Waiting() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.waiting.count
}

type connKey struct{}

// withConn is for http.Server.ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	for {
		switch layer := c.(type) {
		case *Conn:
			return context.WithValue(ctx, connKey{}, layer)
		case interface{ NetConn() net.Conn }: // such as *tls.Conn
			c = layer.NetConn()
		case *proxyproto.Conn:
			c = layer.Raw()
		default:
			return ctx
		}
	}
}

// Of returns the connection that a request came on, by the request's context;
// nil if it was not accepted here.
func Of(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}
