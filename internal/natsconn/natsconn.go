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
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/loopback"
	"github.com/neolith/daemon-gateway/internal/outage"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config says where NATS is and how to authenticate there.
type Config struct {
	NATSURL         []settings.URL `name:"nats-url" default:"nats://127.0.0.1:4222" group:"NATS" help:"URLs of the NATS servers; the others of their cluster are found through them."`
	NATSCredsFile   string         `name:"nats-creds-file" group:"NATS" help:"File with the credentials (JWT and key) of this node's NATS user."`
	NATSInboxPrefix string         `name:"nats-inbox-prefix" default:"_INBOX" group:"NATS" help:"What the subjects begin with on which this node is answered. With a prefix of its own, which nobody else's NATS user may subscribe to, nobody else can read the answers. The user must be permitted to subscribe to it and all below: PREFIX.>."`
	NATSTLSCA       string         `name:"nats-tls-ca" group:"NATS" help:"File with the certificates of the authorities that may sign a server's certificate; those of the system if not given."`
	NATSTLSCert     string         `name:"nats-tls-cert" group:"NATS" help:"File with this node's client certificate."`
	NATSTLSKey      string         `name:"nats-tls-key" group:"NATS" help:"File with the key of the client certificate."`
}

// Validate reports what cannot be connected with: URLs, and files that are not
// there or hold something else. None of that is worth a try.
func (c Config) Validate(report func(setting, problem string)) {
	if len(c.NATSURL) == 0 {
		report("NATS_URL", "expected at least one URL")
	}
	for _, u := range c.NATSURL {
		if !usable(string(u)) {
			report("NATS_URL", "expected nats://[user:password@]host[:port] for each, or tls://, ws:// or wss://")
			break
		}
	}
	if c.NATSInboxPrefix != "" && nats.CustomInboxPrefix(c.NATSInboxPrefix)(&nats.Options{}) != nil || strings.ContainsAny(c.NATSInboxPrefix, " \t\r\n") {
		report("NATS_INBOX_PREFIX", "expected a subject without wildcards and without a dot at its end, such as _INBOX_edge")
	}
	if (c.NATSTLSCert == "") != (c.NATSTLSKey == "") {
		report("NATS_TLS_CERT", "expected together with NATS_TLS_KEY, or neither")
		return
	}
	for _, f := range c.files() {
		if err := readable(f.option); err != nil {
			report(f.setting, fmt.Sprintf("expected %s: %v", f.expected, err))
		}
	}
}

// usable tells whether the library can make something of a URL. It would take a
// name alone as well, which hides that something was forgotten.
func usable(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Hostname() != "" && slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme)
}

// file is a setting that names one, and what the library does with it.
type file struct {
	setting, expected string
	option            nats.Option
}

// files returns those that are given. The library reads them again for each
// connection, so that renewed ones need no restart.
func (c Config) files() (files []file) {
	if c.NATSCredsFile != "" {
		files = append(files, file{"NATS_CREDS_FILE", "a file with the JWT and the key of a user", nats.UserCredentials(c.NATSCredsFile)})
	}
	if c.NATSTLSCA != "" {
		files = append(files, file{"NATS_TLS_CA", "a file with certificates (PEM)", nats.RootCAs(c.NATSTLSCA)})
	}
	if c.NATSTLSCert != "" {
		files = append(files, file{"NATS_TLS_CERT", "files with a certificate and its key (PEM)", nats.ClientCert(c.NATSTLSCert, c.NATSTLSKey)})
	}
	return files
}

// readable reads what an option names, as the library will.
func readable(option nats.Option) error {
	var o nats.Options
	if err := option(&o); err != nil || o.UserJWT == nil {
		return err
	}
	if _, err := o.UserJWT(); err != nil {
		return err
	}
	_, err := o.SignatureCB(nil)
	return err
}

// Exposed reports whether a password may travel over a network as plain text:
// unless the URL or a file says so, the library speaks TLS only if the server asks
// for it.
func (c Config) Exposed() bool {
	if c.NATSTLSCA != "" || c.NATSTLSCert != "" {
		return false
	}
	return slices.ContainsFunc(c.NATSURL, func(text settings.URL) bool {
		u, err := url.Parse(string(text))
		return err == nil && u.User != nil && (u.Scheme == "nats" || u.Scheme == "ws") && !loopback.Is(u.Hostname())
	})
}

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
	// jetStream is away behind a server that is there.
	jetStream *outage.Outage
	dialer    dialer
	inbox     string // the prefix under which this node is answered
	// up says with which server and over which socket the connection is
	// established; nil: it is not. The library knows that too, but behind the lock
	// that it holds while it writes.
	up      atomic.Pointer[established]
	lacking atomic.Pointer[error]   // why there is no JetStream behind the server; nil: there may be
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
	c.jetStream = outage.New("the NATS server has no JetStream, trying to reach another", c.logger)
	c.dialer.failed = c.failed
	var urls []string
	for _, u := range cfg.NATSURL {
		urls = append(urls, string(u))
	}
	// Where a try fails after a server was reached, the library does not say which.
	servers := cfg.Servers()
	if len(cfg.NATSURL) > 1 {
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
	js, err := jetstream.New(nc)
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

func (c Config) options() []nats.Option {
	opts := []nats.Option{
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		nats.FlusherTimeout(0), // the socket bounds each write
		// What is published while the server is away fails at once, and is
		// retried by whoever it belongs to. A buffer would send it after the
		// retries, or after its sender has given up.
		nats.ReconnectBufSize(-1),
		// A wrong password or permission may be mended on the server.
		nats.IgnoreAuthErrorAbort(),
	}
	for _, f := range c.files() {
		opts = append(opts, f.option)
	}
	return opts
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
		return false, fmt.Sprintf("%s, but there is no JetStream behind it: %v; %s", detail, *lacking, c.jetStream.Since())
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
