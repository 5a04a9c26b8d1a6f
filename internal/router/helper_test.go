package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const (
	partitions = 2
	patience   = testserver.Patience
	moment     = 20 * time.Millisecond
	// publishTimeout leaves a publish that was lost with its server time for more.
	publishTimeout = 10 * time.Second
)

// cluster is what routers run in: a NATS server and, once there is a member,
// somebody to join.
type cluster struct {
	t      *testing.T
	server *testserver.NATSServer
	log    *eventlog.Log
	logger *slog.Logger

	mu   sync.Mutex
	join []string
	sent int
}

func newCluster(t *testing.T, server *testserver.NATSServer) *cluster {
	t.Helper()
	c := &cluster{t: t, server: server, logger: slog.New(slog.NewTextHandler(untilEnd(t), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	c.log, err = eventlog.Open(ctx, server.JetStream(), c.config().Log, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	return c
}

// testOutput is the test's output while the test runs. memberlist may log for
// a moment after it was shut down, which testing answers with a panic.
type testOutput struct {
	mu  sync.Mutex
	out io.Writer
}

func untilEnd(t *testing.T) *testOutput {
	o := &testOutput{out: t.Output()}
	t.Cleanup(func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.out = io.Discard
	})
	return o
}

func (o *testOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.out.Write(p)
}

func (c *cluster) config() Config {
	cfg := settings.Default[Config]()
	cfg.NATS.NATSURL = []settings.URL{settings.URL(c.server.ClientURL())}
	cfg.Log.Partitions = partitions
	cfg.Admin.AdminAddr = "127.0.0.1:0"
	cfg.Ring = c.ring()
	// An edge is slow only where a test has it be: what is not confirmed in time
	// comes as a hint.
	cfg.ForwardTimeout, cfg.ShutdownTimeout = patience, patience
	return cfg
}

func (c *cluster) ring() ring.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	cfg := settings.Default[ring.Config]()
	cfg.GossipAddr = "127.0.0.1:0"
	cfg.GossipJoin = slices.Clone(c.join)
	return cfg
}

func (c *cluster) joinable(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.join = append(c.join, address)
}

// running is a router and how it ended.
type running struct {
	*Router
	stop  context.CancelFunc
	ended chan struct{}
	err   error // after ended
}

// router starts a router, which is stopped with the test.
func (c *cluster) router(name string, change ...func(*Config)) *running {
	c.t.Helper()
	cfg := c.config()
	cfg.NodeName = name
	for _, f := range change {
		f(&cfg)
	}
	r, err := New(cfg, c.logger)
	require.NoError(c.t, err)
	c.joinable(r.GossipAddr())
	ctx, cancel := context.WithCancel(context.Background())
	running := &running{Router: r, stop: cancel, ended: make(chan struct{})}
	go func() {
		defer close(running.ended)
		running.err = r.Run(ctx)
	}()
	c.t.Cleanup(func() {
		cancel()
		<-running.ended
		if !errors.Is(running.err, natsconn.ErrClosed) {
			require.NoError(c.t, running.err)
		}
	})
	return running
}

// kill ends the router as a crash does: without NATS and without a farewell.
func (r *running) kill() { r.conn.NC.Close() }

func (r *running) owns() int {
	n := 0
	for p := range event.Partition(partitions) {
		if served := r.placement.get(p); served != nil && !isClosed(served.done) && served.ready() == nil {
			n++
		}
	}
	return n
}

func (c *cluster) eventually(condition func() bool, what string) {
	c.t.Helper()
	require.Eventually(c.t, condition, patience, moment, "%s", what)
}

func (c *cluster) owning(r *running, n int) {
	c.t.Helper()
	c.eventually(func() bool { return r.owns() == n }, fmt.Sprintf("owning %d", n))
}

// edge is a member of the edge tier that receives batches and keeps them.
type edge struct {
	*ring.Directory
	nc   *nats.Conn
	mute atomic.Bool

	mu       sync.Mutex
	events   map[event.Token][]delivery.Forwarded
	hints    map[event.Token]uint64
	epochs   map[eventlog.Epoch]bool
	told     map[news]bool
	received int
}

// news is an event that an edge was sent, or told of by a hint.
type news struct {
	epoch    eventlog.Epoch
	token    event.Token
	sequence uint64
}

func (c *cluster) edge(name string) *edge {
	c.t.Helper()
	d, err := ring.New(c.ring(), ring.TierEdge, name, "test", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(c.t, err)
	c.joinable(d.Self().Address)
	e := &edge{Directory: d, events: map[event.Token][]delivery.Forwarded{}, hints: map[event.Token]uint64{}, epochs: map[eventlog.Epoch]bool{}, told: map[news]bool{}}
	e.nc = testserver.Connect(c.t, c.server.ClientURL())
	testserver.Answer(c.t, e.nc, delivery.Subject(event.TokenOf(d.Self().Name)), e.receive)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx, ctx.Done()) }()
	c.t.Cleanup(func() {
		cancel()
		require.NoError(c.t, <-ended)
		e.nc.Close()
	})
	return e
}

func (e *edge) receive(msg *nats.Msg) {
	if e.mute.Load() {
		return
	}
	batch, err := delivery.Decode(msg.Data)
	if err != nil {
		panic(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.epochs[batch.Epoch] = true
	for _, f := range batch.Events {
		e.received++
		e.told[news{batch.Epoch, f.Token, f.Sequence}] = true
		e.events[f.Token] = append(e.events[f.Token], f)
	}
	for _, h := range batch.Hints {
		e.hints[h.Token] = max(e.hints[h.Token], h.Sequence)
		e.told[news{batch.Epoch, h.Token, h.Sequence}] = true
	}
	_ = msg.Respond(nil)
}

func (e *edge) claim(o event.Token) {
	e.Claim(ring.Claim{Orchestrator: o, Session: protocol.SessionID(uuid.NewString()), Daemon: "d", Generation: 1})
}

// known waits until the router knows that somebody holds the orchestrator.
func (c *cluster) known(r *running, tokens ...event.Token) {
	c.t.Helper()
	c.eventually(func() bool {
		for _, o := range tokens {
			if len(r.ring.AppendEdges(nil, o)) == 0 {
				return false
			}
		}
		return true
	}, "claims known")
}

func (e *edge) has(o event.Token, sequence uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.events[o], func(f delivery.Forwarded) bool { return f.Sequence == sequence })
}

func (e *edge) knows(n news) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.told[n]
}

// toldOf waits until the edge has an event, or a hint of it.
func (c *cluster) toldOf(e *edge, o event.Token, sequence uint64) {
	c.t.Helper()
	c.eventually(func() bool { return e.has(o, sequence) || e.hinted(o) >= sequence }, fmt.Sprintf("told of event %d of %s", sequence, o))
}

func (e *edge) hinted(o event.Token) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hints[o]
}

func (e *edge) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.received
}

// publish stores an event and returns where it stands.
func (c *cluster) publish(o event.Token) uint64 {
	c.t.Helper()
	c.mu.Lock()
	c.sent++
	id := fmt.Sprintf("event-%d", c.sent)
	c.mu.Unlock()
	body := fmt.Sprintf(`{"id":%q,"type":"message.received","orchestratorId":%q,"payload":{},"requiresAck":true}`, id, o)
	var ack eventlog.Ack
	require.Eventually(c.t, func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), publishTimeout)
		defer cancel()
		var err error
		ack, err = c.log.Publish(ctx, o, id, []byte(body))
		return err == nil
	}, patience, moment)
	return ack.Sequence
}

// reached waits until the edge has each of the orchestrator's events.
func (c *cluster) reached(e *edge, o event.Token, sequences ...uint64) {
	c.t.Helper()
	for _, q := range sequences {
		c.eventually(func() bool { return e.has(o, q) }, fmt.Sprintf("event %d of %s", q, o))
	}
}

// checkpointed waits until the orchestrator's event is behind the checkpoint.
func (c *cluster) checkpointed(o event.Token, sequence uint64) {
	c.t.Helper()
	c.eventually(func() bool {
		checkpoint, found, err := c.log.LoadCheckpoint(c.t.Context(), c.log.Partition(o))
		return err == nil && found && checkpoint.Sequence >= sequence
	}, "checkpoint")
}

// put publishes a body past every check of the publisher's.
func (c *cluster) put(o event.Token, body string) uint64 {
	c.t.Helper()
	js := c.server.JetStream()
	ack, err := js.Publish(c.t.Context(), event.Subject(c.log.Partition(o), o), []byte(body))
	require.NoError(c.t, err)
	return ack.Sequence
}

func stream(t *testing.T, js jetstream.JetStream, name string) jetstream.Stream {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	require.NoError(t, err)
	return s
}
