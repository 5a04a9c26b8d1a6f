package ring

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/outage"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Directory is one node's view of the cluster. Its methods may be called at
// any time from any goroutine, except Watch.
type Directory struct {
	// Set once by New.
	cfg      Config
	options  options
	logger   *slog.Logger
	metrics  *metrics
	table    *table
	roster   *roster
	inbox    *inbox
	senders  *senders
	delegate *delegate
	list     *memberlist.Memberlist
	keys     *memberlist.Keyring // nil: none
	dial     func(to memberlist.Address, timeout time.Duration) (net.Conn, error)

	watchers []Watcher // set before Run

	// Owned by the worker goroutine of Run.
	follower  *follower
	strangers map[edgeID]digest // requests of members not yet known
	refusals  rate.Sometimes    // of messages that are told of
	unroomed  rate.Sometimes    // edges whose claims find no room that are told of

	lines          *logWriter     // memberlist's log
	outage         *outage.Outage // nobody of GOSSIP_JOIN is reached
	self           atomic.Pointer[Member]
	joined         atomic.Bool
	left           atomic.Bool
	settled        atomic.Bool
	lagSince       atomic.Pointer[time.Time] // nil: this node knows all that it has heard of
	membersChanged atomic.Bool               // not yet told to the watchers

	mu     sync.Mutex // serialises Leave, SetDraining and Close
	closed bool       // guarded by mu
}

// options is what tests change.
type options struct {
	lookup lookupFunc
	rejoin time.Duration
	listen func(bind, advertise netip.AddrPort, logger *log.Logger) (*transport, error)
	// wrap puts faults between memberlist and the network.
	wrap func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport
	// lose says that a message is lost on its way although sending succeeds.
	lose func(to string, message []byte) bool
	// standing says that messages go and come on streams that stay open, which an
	// older version does not know.
	standing bool
}

func defaultOptions() options {
	return options{
		lookup: systemLookup, rejoin: rejoinInterval, listen: listen,
		wrap: func(t memberlist.NodeAwareTransport) memberlist.NodeAwareTransport { return t },
		lose: func(string, []byte) bool { return false }, standing: true,
	}
}

// New binds the gossip address and takes part in the gossip at once, alone
// until Run joins others. node is the configured node name, 1 to 128 bytes;
// build is the program's version. cfg has passed Validate. If Run is never
// called, Close gives the address back.
func New(cfg Config, tier Tier, node, build string, logger *slog.Logger, reg prometheus.Registerer) (*Directory, error) {
	return open(cfg, tier, node, build, logger, reg, defaultOptions())
}

func open(cfg Config, tier Tier, node, build string, logger *slog.Logger, reg prometheus.Registerer, o options) (*Directory, error) {
	if len(node) == 0 || len(node) > maxNodeBytes {
		return nil, fmt.Errorf("node name has %d bytes, expected 1 to %d", len(node), maxNodeBytes)
	}
	logger = logger.With("component", "directory")
	lines := newLogWriter(logger)
	gossipLog := newGossipLog(lines)
	bind, err := parseBind(cfg.GossipAddr)
	if err != nil {
		return nil, fmt.Errorf("gossip address: %w", err)
	}
	advertise, err := parseAdvertise(cfg.GossipAdvertiseAddr, bind.Port())
	if err != nil {
		return nil, fmt.Errorf("gossip address to advertise: %w", err)
	}
	keys, err := parseKeys(cfg.GossipKeys)
	if err != nil {
		return nil, err
	}
	inspector, err := newInspector(cfg.ClusterName, keys)
	if err != nil {
		return nil, err
	}
	transport, err := o.listen(bind, advertise, gossipLog)
	if err != nil {
		return nil, err
	}
	d := assemble(cfg, tier, node, build, transport.address.String(), logger, reg, o)
	d.keys, d.lines = keys, lines
	bounds := newStreams(d.metrics.dropped)
	transport.receive(&receiver{
		cluster: cfg.ClusterName, keys: keys, inspector: inspector, bounds: bounds, take: d.inbox.put, logger: logger,
	})
	wrapped := o.wrap(transport)
	d.dial = wrapped.DialAddressTimeout
	d.senders.send, d.senders.standingTo = d.send, d.standingTo
	gossip := gossipConfig(d, keys, &inspecting{NodeAwareTransport: wrapped, by: inspector, bounds: bounds})
	gossip.Logger = gossipLog
	d.list, err = memberlist.Create(gossip)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start gossip on %s: %w", bind, err), transport.Shutdown())
	}
	observe(d, reg)
	return d, nil
}

// assemble makes all of the directory but the gossip.
func assemble(cfg Config, tier Tier, node, build, address string, logger *slog.Logger, reg prometheus.Registerer, o options) *Directory {
	self := Member{
		// A name is used once: memberlist refuses a known name at a new
		// address until the old one has been dead for long.
		Name: node + "-" + strconv.FormatInt(time.Now().UnixNano(), 36),
		Node: node, Tier: tier, Address: address, Build: build[:min(len(build), maxBuildBytes)],
	}
	edgeName := ""
	if tier == TierEdge {
		edgeName = self.Name
	}
	m := newMetrics(reg)
	d := &Directory{
		cfg: cfg, options: o, logger: logger, metrics: m, table: newTable(edgeName), roster: newRoster(self), inbox: newInbox(m),
		strangers: make(map[edgeID]digest), refusals: rate.Sometimes{First: 5, Interval: 10 * time.Second}, unroomed: rate.Sometimes{First: 1, Interval: time.Minute}, outage: outage.New("no gossip member joined", logger),
	}
	d.self.Store(&self)
	d.table.room = cfg.room()
	d.follower = newFollower(d.table, m)
	d.follower.noRoom = d.noteNoRoom
	d.delegate = newDelegate(self, d.table, d.inbox, m, o.standing)
	d.delegate.admit.tell = d.noteCrowd
	d.senders = &senders{
		self: idOf(self.Name), table: d.table, metrics: m, logger: logger,
		slots: make(chan struct{}, snapshotSlots), peers: make(map[edgeID]*peer),
	}
	return d
}

// gossipConfig is memberlist's configuration. A killed node is found out in 2.3
// to 2.8 s with these probes.
func gossipConfig(d *Directory, keys *memberlist.Keyring, t memberlist.NodeAwareTransport) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = d.Self().Name
	c.Label = d.cfg.ClusterName
	c.Keyring = keys
	c.Transport = t
	c.ProbeInterval = 500 * time.Millisecond
	c.ProbeTimeout = 200 * time.Millisecond
	c.SuspicionMult = 3
	// News goes round twice as fast as by default: a stop waits for it.
	c.GossipInterval = 100 * time.Millisecond
	c.TCPTimeout = 5 * time.Second
	// Where several nodes start at once, or a partition heals, the news of a member
	// may reach some and not others. memberlist's 4 transmissions miss somebody in
	// one start of five nodes in ten (tried), for as long as until the next
	// push/pull, whose state is a few kilobytes.
	c.RetransmitMult = 10
	c.PushPullInterval = 10 * time.Second
	// LZW costs more than it saves: what is large is ids, and what is small is
	// encrypted anyway.
	c.EnableCompression = false
	c.DelegateProtocolMin, c.DelegateProtocolVersion, c.DelegateProtocolMax = wireVersion, wireVersion, wireVersion
	c.Delegate, c.Events, c.Ping, c.Alive = d.delegate, d.delegate, d.delegate, d.delegate
	return c
}

// send sends a message to a member, and returns when it has been taken in; or
// when it has been sent, to one of a version that does not say so.
func (d *Directory) send(p *peer, message []byte) error {
	switch {
	case d.options.lose(p.node.Name, message):
		return nil
	case p.standing != nil:
		return p.standing.send(message)
	}
	return d.list.SendReliable(&p.node, message)
}

// standingTo returns the way to a member; nil: it takes no streams that stay open.
func (d *Directory) standingTo(n memberlist.Node) *standing {
	if !d.options.standing || !takesStanding(&n) {
		return nil
	}
	to := n.FullAddress()
	return &standing{
		cluster: d.cfg.ClusterName, keys: d.keys,
		dial: func() (net.Conn, error) { return d.dial(to, sendTimeout) },
	}
}

// Watch registers a watcher; it must be called before Run.
func (d *Directory) Watch(w Watcher) { d.watchers = append(d.watchers, w) }

// Self returns this node as the others see it.
func (d *Directory) Self() Member { return *d.self.Load() }

// Members returns the live members of a tier, this node included, ordered by
// name. The slice is not to be modified.
func (d *Directory) Members(tier Tier) []Member { return d.roster.tier(tier) }

// Claim says that this edge holds a connection. It does nothing on a router.
func (d *Directory) Claim(c Claim) { d.table.claim(c) }

// Release takes back the claim of a session; an unknown session is no error.
func (d *Directory) Release(session protocol.SessionID) { d.table.release(session) }

// AppendEdges appends to dst the member names of the edges that hold the
// orchestrator, each once, this node included. It does not allocate while dst
// has room.
func (d *Directory) AppendEdges(dst []string, token event.Token) []string {
	return d.table.index.appendEdges(dst, token)
}

// Holdings returns all claims of an orchestrator, in no particular order.
func (d *Directory) Holdings(token event.Token) []Holding { return d.table.index.holdings(token) }

// EachOrchestrator calls yield once for each orchestrator that an edge holds,
// in no order. What changes meanwhile may or may not be seen; yield must not
// call the directory.
func (d *Directory) EachOrchestrator(yield func(event.Token)) { d.table.index.each(yield) }

// Settled reports whether this node has joined (or has nobody to join) and has
// once known all claims of all edges it knows. It stays true from then on, and
// becomes true 10 s after Run in any case: the directory is only a hint, and a
// member that cannot be reached must not keep others from starting.
func (d *Directory) Settled() bool { return d.settled.Load() }

// Outage says for /readyz why none of the members of GOSSIP_JOIN can be joined; ""
// where one was.
func (d *Directory) Outage() string { return d.outage.Detail() }

// noDeadline bounds what waits for the gossip when the context does not.
const noDeadline = 5 * time.Second

func timeLeft(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return max(time.Until(end), time.Millisecond)
	}
	return noDeadline
}

var errClosed = errors.New("the directory is closed")

// SetDraining tells the others whether this node is about to leave. It returns
// when a first member has been told, or with an error at ctx's deadline (5 s
// without one); the others are told nonetheless.
func (d *Directory) SetDraining(ctx context.Context, draining bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	self := d.Self()
	self.Draining = draining
	d.self.Store(&self)
	d.delegate.setMeta(self)
	if changed, _ := d.roster.put(self); changed {
		d.noteMembersChanged()
	}
	if err := d.list.UpdateNode(timeLeft(ctx)); err != nil {
		return fmt.Errorf("tell the cluster that draining is %t: %w", draining, err)
	}
	return nil
}

// Leave tells the others that this node goes, so that they forget its claims
// at once. It returns when a first member has been told, or with an error at
// ctx's deadline (5 s without one). Run goes on until its context ends.
func (d *Directory) Leave(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	d.left.Store(true)
	d.lines.ended.Store(true)
	if err := d.list.Leave(timeLeft(ctx)); err != nil {
		return fmt.Errorf("leave the gossip: %w", err)
	}
	return nil
}

// Close stops gossiping without a word to the others. It is safe to call twice
// and after Run, which calls it at its end.
func (d *Directory) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.lines.ended.Store(true)
	if err := d.list.Shutdown(); err != nil {
		return fmt.Errorf("stop the gossip: %w", err)
	}
	return nil
}
