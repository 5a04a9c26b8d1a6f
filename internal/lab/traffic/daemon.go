// Package traffic drives a cluster as the outside world does - daemons on the
// edges, publishers on Redis - and writes down in a ledger what they do and
// see. It also copies into the ledger what the log and the dead letters hold.
package traffic

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Profile says which daemon takes a seat, and where it connects.
type Profile struct {
	Seat         ledger.Seat
	Orchestrator protocol.OrchestratorID
	Daemon       protocol.DaemonID
	Subscribes   []protocol.Subscribe
	// URLs of edges, tried in turn.
	URLs []string
	// Secret signs its tokens.
	Secret settings.Secret
	// TLS is for wss, see client.Config.
	TLS *tls.Config
	// Header is added to the upgrade request.
	Header http.Header
	// From is the address that it connects from; nil: the system's choice.
	From net.Addr
	// Handle is the daemon's handler, see client.Config. Nil: it acknowledges
	// whatever it gets.
	Handle func(ctx context.Context, e protocol.Event) error
	// Resume is where the daemon says that it stands, see client.Config; nil: the
	// gateway knows.
	Resume func() string
	// OnState and OnFrame hear what the ledger does, see client.Config; nil: nobody.
	OnState func(client.StateChange)
	OnFrame func(client.Frame)
	// HeartbeatInterval is how often it sends heartbeats, see client.Config. The
	// ledger takes each for a question, see ledger.Asked.
	HeartbeatInterval time.Duration
	// ConnectTimeout is after how long an edge that does not answer is left for the
	// next one; 0: 5 s.
	ConnectTimeout time.Duration
	// Backoff paces its new connections; nil: shortly, since tests want to be
	// back soon, and there is no herd to spread.
	Backoff *client.Backoff
}

func (p Profile) subscriptions() []protocol.Subscription {
	var all []protocol.Subscription
	for _, s := range p.Subscribes {
		for _, pattern := range s.EventTypes {
			all = append(all, protocol.Subscription{Pattern: pattern, Channels: s.ChannelIDs})
		}
	}
	return all
}

func (p Profile) token(context.Context) (string, error) {
	return auth.Mint(p.Secret, auth.Grant{Orchestrator: p.Orchestrator, Daemon: p.Daemon, ExpiresAt: time.Now().Add(time.Hour)})
}

// Daemon is a running daemon. Its methods may be called at the same time.
type Daemon struct {
	profile Profile
	client  *client.Client
	ledger  *ledger.Ledger
	stop    context.CancelFunc
	ended   chan struct{}
	err     error // why it ended; read after ended

	first      sync.Once
	subscribed chan struct{} // closed at the first subscribed

	mu       sync.Mutex
	conn     ledger.ConnID
	edge     string   // the URL of conn
	open     bool     // conn is a connection
	network  *network // the newest
	dialled  []*network
	deserted bool
}

// StartDaemon starts a daemon that connects, and connects again, until Stop or
// until the gateway refuses it for good.
func StartDaemon(l *ledger.Ledger, p Profile) (*Daemon, error) {
	d := &Daemon{profile: p, ledger: l, ended: make(chan struct{}), subscribed: make(chan struct{})}
	if p.Handle == nil {
		p.Handle = func(context.Context, protocol.Event) error { return nil }
	}
	if p.Backoff == nil {
		p.Backoff = &client.Backoff{Min: 50 * time.Millisecond, Max: time.Second}
	}
	c, err := client.New(client.Config{
		URLs: p.URLs, Token: p.token, OrchestratorID: p.Orchestrator, DaemonID: p.Daemon, Subscriptions: p.Subscribes,
		Handler: p.Handle, Resume: p.Resume,
		OnState: d.stateChanged, OnFrame: d.frame, DialContext: d.dial, TLSConfig: p.TLS, Header: p.Header,
		Backoff:           *p.Backoff,
		HeartbeatInterval: p.HeartbeatInterval,
		ConnectTimeout:    cmp.Or(p.ConnectTimeout, 5*time.Second),
	})
	if err != nil {
		return nil, fmt.Errorf("daemon %s: %w", p.Daemon, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d.client, d.stop = c, stop
	go func() {
		defer close(d.ended)
		d.err = c.Run(ctx)
	}()
	return d, nil
}

// Profile returns what the daemon was started with.
func (d *Daemon) Profile() Profile { return d.profile }

// AwaitSubscribed waits until the gateway has confirmed a subscription.
func (d *Daemon) AwaitSubscribed(ctx context.Context) error {
	select {
	case <-d.subscribed:
		return nil
	case <-d.ended:
		return fmt.Errorf("daemon %s ended: %w", d.profile.Daemon, d.err)
	case <-ctx.Done():
		return fmt.Errorf("daemon %s is not subscribed: %w", d.profile.Daemon, context.Cause(ctx))
	}
}

// Subscribed reports whether the gateway has ever confirmed a subscription.
func (d *Daemon) Subscribed() bool {
	select {
	case <-d.subscribed:
		return true
	default:
		return false
	}
}

// Stop closes the connection gracefully and waits for the daemon's end. It
// returns why the daemon had ended before, if it had.
func (d *Daemon) Stop() error {
	d.stop()
	<-d.ended
	return d.err
}

// Ack acknowledges events that Handle did not.
func (d *Daemon) Ack(ids ...string) { d.client.Ack(ids...) }

// Post acknowledges an event by HTTP at the edge that the daemon is connected to,
// which is asked again until it has said so.
func (d *Daemon) Post(ctx context.Context, id string) error {
	for ; ctx.Err() == nil; Wait(ctx, postRetry) {
		d.mu.Lock()
		conn, edge, open := d.conn, d.edge, d.open
		d.mu.Unlock()
		if open && d.post(ctx, edge, id) == nil {
			d.ledger.Acked(conn, id)
			return nil
		}
	}
	return ctx.Err()
}

const (
	postTimeout = 5 * time.Second
	postRetry   = 200 * time.Millisecond
)

func (d *Daemon) post(ctx context.Context, edge, id string) error {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	token, err := d.profile.token(ctx)
	if err != nil {
		return err
	}
	url := "http" + strings.TrimSuffix(strings.TrimPrefix(edge, "ws"), protocol.Path) + "/api/daemon/events"
	body, err := json.Marshal(map[string]any{"eventIds": []string{id}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("acknowledge %s by HTTP: %s", id, resp.Status)
	}
	return nil
}

// Ended is closed when the daemon has ended; Stop says why.
func (d *Daemon) Ended() <-chan struct{} { return d.ended }

// Cut ends the network connection without a close frame, as a crash of the
// daemon would: its edge learns of it at once. The daemon connects again.
func (d *Daemon) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.network != nil {
		_ = d.network.Close()
	}
}

// Desert has the daemon's machine vanish: its edge sees a connection on which
// nothing comes and whatever is sent is taken, until Stop. What the daemon still
// does, nobody hears of.
func (d *Daemon) Desert() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deserted = true
	for _, n := range d.dialled { // one that was given up may be used yet
		n.freeze()
	}
	d.closedLocked()
}

var errDeserted = errors.New("the daemon's machine has vanished")

// dial connects, but from a machine that has vanished: a daemon there ends, or it
// would try again for as long as the run goes on.
func (d *Daemon) dial(ctx context.Context, kind, addr string) (net.Conn, error) {
	if d.gone() {
		d.stop()
		return nil, errDeserted
	}
	dialer := net.Dialer{LocalAddr: d.profile.From}
	conn, err := dialer.DialContext(ctx, kind, addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deserted {
		_ = conn.Close()
		return nil, errDeserted
	}
	d.network = newNetwork(conn)
	d.dialled = append(d.dialled, d.network)
	return d.network, nil
}

func (d *Daemon) gone() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.deserted
}

// closedLocked: d.mu is held.
func (d *Daemon) closedLocked() {
	if d.open {
		d.ledger.Closed(d.conn)
		d.open = false
	}
}

func (d *Daemon) stateChanged(s client.StateChange) {
	if d.profile.OnState != nil {
		d.profile.OnState(s)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deserted {
		return
	}
	switch s.State {
	case client.StateConnecting:
		d.conn = d.ledger.Connected(ledger.Connection{
			Seat: d.profile.Seat, Orchestrator: d.profile.Orchestrator, Daemon: d.profile.Daemon,
			Subscriptions: d.profile.subscriptions(), Edge: s.URL,
		})
		d.open, d.edge = true, s.URL
	case client.StateSubscribed:
		d.ledger.Subscribed(d.conn)
		d.first.Do(func() { close(d.subscribed) })
	case client.StateDisconnected, client.StateStopped:
		d.closedLocked()
	}
}

// frame writes down events, acks, and heartbeats with their answers. Its errors are not hidden: what cannot be
// read is an event that nobody published.
func (d *Daemon) frame(f client.Frame) {
	if d.profile.OnFrame != nil {
		d.profile.OnFrame(f)
	}
	d.mu.Lock()
	conn, deserted := d.conn, d.deserted
	d.mu.Unlock()
	switch {
	case deserted:
	case !f.Sent && f.Type == protocol.TypeEvent:
		m, err := protocol.ParseServerMessage(f.Data)
		e, ok := m.Payload.(*protocol.Event)
		if err != nil || !ok {
			e = &protocol.Event{EventID: fmt.Sprintf("unreadable: %v", err)}
		}
		d.ledger.Received(conn, *e)
	case f.Sent && f.Type == protocol.TypeAck:
		m, fault := protocol.ParseClientMessage(f.Data)
		if ack, ok := m.Payload.(protocol.Ack); fault == nil && ok {
			d.ledger.Acked(conn, ack.EventIDs...)
		}
	case f.Sent && f.Type == protocol.TypeHeartbeat:
		d.ledger.Asked(conn)
	case !f.Sent && f.Type == protocol.TypeHeartbeatAck:
		d.ledger.Answered(conn)
	}
}
