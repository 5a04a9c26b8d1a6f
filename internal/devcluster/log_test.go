package devcluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// witness is a daemon that acknowledges what it receives and counts it, and the
// times that it was connected.
type witness struct {
	mu        sync.Mutex
	received  map[string]int
	connected int
}

func (c *Cluster) witness(t *testing.T) *witness {
	t.Helper()
	w := &witness{received: map[string]int{}}
	daemon, err := client.New(client.Config{
		URLs: c.EdgeURLs(), OrchestratorID: handOrchestrator, DaemonID: handDaemon,
		Token:         func(context.Context) (string, error) { return c.Token(handOrchestrator, handDaemon, time.Hour) },
		Subscriptions: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		Handler:       func(context.Context, protocol.Event) error { return nil },
		OnFrame:       w.frame, // of repeats the handler does not hear
		OnState: func(change client.StateChange) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if change.State == client.StateSubscribed {
				w.connected++
			}
		},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return w
}

func (w *witness) frame(f client.Frame) {
	if f.Sent || f.Type != protocol.TypeEvent {
		return
	}
	if m, err := protocol.ParseServerMessage(f.Data); err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.received[m.Payload.(*protocol.Event).EventID]++
	}
}

// has waits until the daemon has received an event so many times.
func (w *witness) has(t *testing.T, id string, times int) {
	t.Helper()
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.received[id] >= times
	}, patience, readyPoll, id)
}

func (w *witness) stayed(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Equal(t, 1, w.connected, "the daemon has kept its connection")
}

func numbered(n int) string {
	return fmt.Sprintf(`{"id":"e%d","type":"message.received","orchestratorId":"you","payload":{},"requiresAck":true}`, n)
}

// However often the log is rolled back: daemons keep their connections,
// are sent what is retained again, and miss nothing that comes afterwards.
func TestDaemonsMissNothingAfterTheLogWasRolledBack(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	cfg := config(t, t.TempDir())
	cfg.NATSURL = []settings.URL{settings.URL(server.ClientURL())}
	c, _, _ := start(t, cfg)
	w := c.witness(t)
	publish(t, c, numbered(0))
	w.has(t, "e0", 1)
	token := event.TokenOf(handOrchestrator)
	files := server.Copy(t, event.StreamName(event.PartitionOf(token, c.partitions)))
	for round := range 2 {
		for n := range 5 {
			publish(t, c, numbered(1+10*round+n))
		}
		w.has(t, fmt.Sprintf("e%d", 5+10*round), 1)
		files.RollBack(t)
		w.has(t, "e0", 2+round)
	}
	publish(t, c, numbered(100))
	w.has(t, "e100", 1)
	w.stayed(t)
}

func TestDaemonsStayConnectedWhileNATSHasNoMajority(t *testing.T) {
	t.Parallel()
	servers := testserver.NATSCluster(t, 3)
	cfg := config(t, t.TempDir())
	for _, node := range servers.Nodes {
		cfg.NATSURL = append(cfg.NATSURL, settings.URL(node.ClientURL()))
	}
	c, _, _ := start(t, cfg)
	w := c.witness(t)
	publish(t, c, numbered(0))
	w.has(t, "e0", 1)
	js := testserver.JetStream(t, servers.Nodes[2].ClientURL())
	for round := range 2 {
		for _, node := range servers.Nodes[:2] {
			node.Pause()
		}
		for n := range 5 {
			publish(t, c, numbered(1+10*round+n))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "NO_MAJORITY"})
		cancel()
		require.Error(t, err)
		for _, node := range servers.Nodes[:2] {
			node.Resume()
		}
		for n := range 5 {
			w.has(t, fmt.Sprintf("e%d", 1+10*round+n), 1)
		}
	}
	w.stayed(t)
}
