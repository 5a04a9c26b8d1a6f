// Package natsconn holds a node's one connection to NATS: how it is configured,
// that it never gives up, and what is known of its state without asking the
// server. What is done over it, its users decide.
package natsconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/outage"
)

const (
	reconnectWait   = 250 * time.Millisecond
	reconnectJitter = 250 * time.Millisecond
	// retryWithin is how soon after a failure another try follows.
	retryWithin = reconnectWait + reconnectJitter
	// pingInterval is how often a server that lives is made to say something. A
	// ping costs next to nothing. maxPings unanswered ones end a connection as
	// well, later than its socket does that.
	pingInterval = time.Second
	maxPings     = 5
)

// Conn is a connection to NATS that is tried again for ever. Its methods may be
// called at the same time and never block.
type Conn struct {
	NC *nats.Conn
	JS jetstream.JetStream

	logger *slog.Logger
	outage *outage.Outage
	// jetStream, or what was in it, is away behind a server that is there.
	jetStream *outage.Outage
	dialer    dialer
	inbox     string // the prefix under which this node is answered
	// up says with which server and over which socket the connection is
	// established; nil: it is not. The library knows that too, but behind the lock
	// that it holds while it writes.
	up      atomic.Pointer[established]
	lacking atomic.Pointer[error]   // why the server is of no use; nil: it may be
	home    atomic.Bool             // the gateway's streams were found, see FoundStreams
	refused atomic.Pointer[refusal] // what the server has forbidden on this connection
	// tolerated is what this node need not be permitted.
	tolerated tolerated
	closing   atomic.Bool   // Close was called
	closed    chan struct{} // closed when the connection was lost for good
	ended     chan struct{} // closed when the connection is closed, asked or not
}

// Connect returns at once, also while NATS cannot be reached: it is tried until
// Close. The context is not kept. name is what the server's monitoring shows.
// onReconnect, if not nil, is called after each connection but the first, from
// a goroutine of the connection, and should not block. An error means a mistake
// in the configuration.
func Connect(ctx context.Context, cfg Config, name string, logger *slog.Logger, reg prometheus.Registerer, onReconnect func()) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &Conn{
		logger:    logger.With("component", "natsconn"),
		dialer:    dialer{Dialer: net.Dialer{Timeout: nats.DefaultTimeout}},
		inbox:     cmp.Or(cfg.NATSInboxPrefix, strings.TrimSuffix(nats.InboxPrefix, ".")),
		tolerated: tolerated{words: map[string]string{}, told: map[string]bool{}},
		closed:    make(chan struct{}),
		ended:     make(chan struct{}),
	}
	if cfg.Exposed() {
		c.logger.Warn("the password for NATS may travel as plain text, expected tls:// or NATS_TLS_CA")
	}
	c.outage = outage.New("NATS cannot be reached", c.logger)
	c.jetStream = outage.New("the NATS server is of no use, trying to reach another", c.logger)
	c.dialer.failed = c.failed
	urls := cfg.urls()
	// Where a try fails after a server was reached, the library does not say which.
	servers := cfg.Servers()
	if len(urls) > 1 {
		servers = "one of " + servers
	}
	// The handlers below may be called before Connect has returned.
	ready := make(chan struct{})
	defer close(ready)
	metrics := newMetrics(reg)
	nc, err := nats.Connect(strings.Join(urls, ","), append(cfg.options(),
		nats.Name(name),
		nats.CustomInboxPrefix(c.inbox),
		nats.SetCustomDialer(&c.dialer),
		nats.ConnectHandler(func(nc *nats.Conn) {
			c.logger.Info("connected to NATS", "server", c.established(nc))
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			<-ready
			metrics.reconnects.Inc()
			c.logger.Info("connected to NATS again", "server", c.established(nc))
			if onReconnect != nil {
				onReconnect()
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			up := c.up.Swap(nil)
			if !c.closing.Load() && err != nil && up != nil {
				c.outage.Failed(up.socket.RemoteAddr().String(), "connection lost: "+reason(err), retryWithin)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if !isDial(err) { // the dialer knows these, and their addresses
				c.failed(servers, err)
			}
		}),
		nats.ClosedHandler(func(nc *nats.Conn) { c.onClosed(nc.LastError()) }),
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
			if c.tolerates(err) {
				return
			}
			metrics.asyncErrors.Inc()
			if isAuthorization(err) && !c.Up() { // a try to connect again
				c.failed(servers, err)
				return
			}
			c.logger.Warn("NATS reported an error", "subject", subjectOf(sub), "error", err)
			c.noteRefusal(nc, err)
		}),
	)...)
	if err != nil {
		return nil, fmt.Errorf("configure the connection to NATS: %w", err)
	}
	js, err := cfg.JetStream(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("JetStream context: %w", err)
	}
	c.NC, c.JS = nc, js
	watchConnection(reg, c)
	return c, nil
}

// established is a connection that is up: with which server, over which socket.
type established struct {
	socket *socket
	url    string
}

// established notes that the connection is up, and returns with which server.
func (c *Conn) established(nc *nats.Conn) (server string) {
	up := &established{socket: c.dialer.newest.Load(), url: nc.ConnectedUrlRedacted()}
	c.refused.Store(nil) // each connection is told anew
	c.up.Store(up)
	c.outage.Over()
	return up.url
}

func subjectOf(sub *nats.Subscription) string {
	if sub == nil {
		return ""
	}
	return sub.Subject
}

func (c *Conn) onClosed(err error) {
	if !c.closing.Load() {
		c.logger.Error("connection to NATS closed for good", "error", err)
		close(c.closed)
	}
	close(c.ended)
}

// Closed is closed when the connection has ended for good without Close having
// been called: the process must end and be started again, because nothing that
// uses the connection will ever work again.
func (c *Conn) Closed() <-chan struct{} { return c.closed }

// ErrClosed is what Run returns when the connection has ended for good.
var ErrClosed = errors.New("connection to NATS closed for good")

// Run watches over the connection until ctx ends, and returns ErrClosed if that
// ends before. It is how a node that cannot work without NATS ends with it.
func (c *Conn) Run(ctx context.Context) error {
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { c.watchJetStream(watching) })
	defer watch.Wait()
	defer stop()
	select {
	case <-ctx.Done():
		return nil
	case <-c.closed:
		return ErrClosed
	}
}

// Up reports whether the connection is up, without waiting for anything.
func (c *Conn) Up() bool {
	ok, _ := c.state()
	return ok
}

// Check tells /readyz whether the connection is up and JetStream behind it, without
// waiting for anything.
func (c *Conn) Check() (ok bool, detail string) {
	ok, detail = c.state()
	if lacking := c.lacking.Load(); ok && lacking != nil {
		return false, fmt.Sprintf("%s, but %v; %s", detail, *lacking, c.jetStream.Since())
	}
	return ok, detail
}

// state does not ask the library.
func (c *Conn) state() (ok bool, detail string) {
	select {
	case <-c.ended:
		return false, "closed"
	default:
	}
	up, away := c.up.Load(), c.outage.Detail()
	down := up == nil || up.socket != c.dialer.newest.Load()
	switch {
	case away != "" && (down || c.dialer.silent()):
		return false, away
	case c.dialer.silent():
		return false, errSilent.Error()
	case down:
		return false, "connecting"
	case c.refused.Load() != nil:
		refused := c.refused.Load()
		return !refused.answers, "connected to " + up.url + ", " + refused.text
	default:
		return true, "connected to " + up.url
	}
}

// Close ends the connection and waits until its handlers have returned. What
// has not been flushed by then is lost.
func (c *Conn) Close() {
	c.closing.Store(true)
	c.NC.Close()
	<-c.ended
}
