// Package attack is hostile clients of an edge, and of the intake of a bridge: they
// read nothing or hardly anything, acknowledge never or nonsense, come and go
// without end, flood, and hold connections without a word. Each Attack is many of them at once. The
// tests bound what they cost, and the scenario hostile measures it.
package attack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Target is what is under attack.
type Target struct {
	// URL is where daemons connect; no TLS.
	URL string
	// Gossip is where the edge gossips, in a cluster of this name and under this key
	// (base64).
	Gossip, Cluster, GossipKey string
	// Intake is where a bridge takes events by TLS, and APIKey a key for that.
	Intake, APIKey string
	// Secret signs the tokens of clients that authenticate: a hostile client may
	// well be somebody's daemon.
	Secret settings.Secret
	// From is the address that the clients connect from; nil: any.
	From net.IP
}

// Attack is what many clients do at once.
type Attack struct {
	// Name is short and of letters and hyphens; What is for people.
	Name, What string
	// Clients is how many there are.
	Clients int
	// Fed says that the clients wait for events: the caller is to publish large
	// ones to Orchestrators all the time.
	Fed bool
	// OnIntake says that the intake of the bridge is attacked, and not the edge.
	OnIntake bool
	// client is one connection, from dialing to its end.
	client func(ctx context.Context, c *client) error
}

// perOrchestrator is how many clients of an attack share an orchestrator: as
// many as may be connected.
const perOrchestrator = 5

// Orchestrators returns those that the clients authenticate for.
func (a Attack) Orchestrators() []protocol.OrchestratorID {
	var all []protocol.OrchestratorID
	for i := 0; i < a.Clients; i += perOrchestrator {
		all = append(all, a.orchestrator(i))
	}
	return all
}

func (a Attack) orchestrator(client int) protocol.OrchestratorID {
	return protocol.OrchestratorID(fmt.Sprintf("hostile-%s-%d", a.Name, client/perOrchestrator))
}

// Tally is what came of an attack.
type Tally struct {
	// Opened counts upgrades, Admitted those that were authenticated.
	Opened, Admitted int
	// Refused counts upgrades by the HTTP status they were refused with, and
	// Closed connections by the code that the edge closed them with, 1006 where
	// it gave none. What the client ended itself is in neither.
	Refused, Closed map[int]int
	// Sent counts the bytes that clients wrote.
	Sent int64
}

// Run attacks until ctx ends, and returns when every client is gone. Clients
// whose connection ends connect again.
func (a Attack) Run(ctx context.Context, t Target) Tally {
	record := &record{tally: Tally{Refused: map[int]int{}, Closed: map[int]int{}}}
	var clients sync.WaitGroup
	for i := range a.Clients {
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				c := &client{Target: &t, attack: a, number: i, turn: n, record: record}
				record.ended(ctx, a.client(ctx, c))
				c.pause(ctx)
			}
		})
	}
	clients.Wait()
	record.mu.Lock()
	defer record.mu.Unlock()
	return record.tally
}

// client is one connection of an attack.
type client struct {
	*Target
	attack       Attack
	number, turn int // which of the attack's clients, and how often it has connected before
	record       *record
}

// record is a Tally under way.
type record struct {
	mu    sync.Mutex
	tally Tally
}

func (r *record) count(f func(*Tally)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.tally)
}

// errDone is the end of a connection that the client wanted.
var errDone = errors.New("the client has done what it wanted")

// ended counts why a connection ended; errors of the network count as closed
// without a code, since that is how a client sees it.
func (r *record) ended(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.Is(err, errDone) {
		return
	}
	r.count(func(t *Tally) {
		var status refused
		if errors.As(err, &status) {
			t.Refused[int(status)]++
			return
		}
		t.Closed[codeOf(err)]++
	})
}

// pause is before a client connects again: all of an attack together connect a
// thousand times a second at most, or it would be this machine that is measured.
func (c *client) pause(ctx context.Context) {
	traffic.Wait(ctx, time.Duration(c.attack.Clients)*time.Millisecond)
}

// connect opens a connection that is closed when ctx ends.
func (c *client) connect(ctx context.Context, greedy bool) (*wire, error) {
	w, err := c.open(ctx, greedy)
	if err != nil {
		return nil, err
	}
	network := w.Conn
	stop := context.AfterFunc(ctx, func() { _ = network.Close() })
	w.Conn = &counted{Conn: network, record: c.record, forget: stop}
	c.record.count(func(t *Tally) { t.Opened++ })
	return w, nil
}

// enter is connect with authentication, for the client's orchestrator.
func (c *client) enter(ctx context.Context, daemon protocol.DaemonID, greedy bool) (*wire, error) {
	w, err := c.connect(ctx, greedy)
	if err != nil {
		return nil, err
	}
	if err := c.authenticate(w, daemon); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

// listen is enter under the client's own id, and subscribes to all.
func (c *client) listen(ctx context.Context, greedy bool) (*wire, error) {
	w, err := c.enter(ctx, c.daemon(), greedy)
	if err != nil {
		return nil, err
	}
	if err := w.say(protocol.TypeSubscribe, subscribeToAll); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

func (c *client) authenticate(w *wire, daemon protocol.DaemonID) error {
	orchestrator := c.attack.orchestrator(c.number)
	token, err := c.mint(daemon)
	if err != nil {
		return err
	}
	if err := w.say(protocol.TypeAuth, fmt.Sprintf(`{"accessToken":%q,"daemonId":%q,"orchestratorId":%q}`, token, daemon, orchestrator)); err != nil {
		return err
	}
	answer, err := w.hear()
	if err != nil {
		return err
	}
	if m, err := protocol.ParseServerMessage(answer); err != nil || m.Type != protocol.TypeAuthSuccess {
		_, err := w.hear() // the close that follows
		return err
	}
	c.record.count(func(t *Tally) { t.Admitted++ })
	return nil
}

// mint makes a token for the client's orchestrator.
func (c *client) mint(daemon protocol.DaemonID) (string, error) {
	return auth.Mint(c.Secret, auth.Grant{Orchestrator: c.attack.orchestrator(c.number), Daemon: daemon, ExpiresAt: time.Now().Add(time.Hour)})
}

// daemon is the id of the client's daemon, the same for all its connections.
func (c *client) daemon() protocol.DaemonID {
	return protocol.DaemonID(fmt.Sprintf("hostile-%d", c.number))
}

const subscribeToAll = `{"eventTypes":["*"]}`

// counted counts the bytes that are written to a connection.
type counted struct {
	net.Conn
	record *record
	forget func() bool // that the connection is to be closed with the context
}

func (c *counted) Close() error {
	c.forget()
	return c.Conn.Close()
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.record.count(func(t *Tally) { t.Sent += int64(n) })
	return n, err
}
