package eventlog_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// damages are what happens to a file of a stream while its server is down.
var damages = map[string]func(t *testing.T, file string){
	"a bit is flipped": func(t *testing.T, file string) {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		data[len(data)/2] ^= 1
		require.NoError(t, os.WriteFile(file, data, 0o600))
	},
	"it is cut": func(t *testing.T, file string) {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(file, info.Size()/2))
	},
	"it is gone": func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) },
}

// secondBlock is a file with events of partition 0 that is neither the first nor
// the last.
func secondBlock(data string) string {
	return filepath.Join(data, "jetstream", "$G", "streams", event.StreamName(0), "msgs", "2.blk")
}

// storeBlocks fills three blocks and some more: enough for the servers to forget
// how they came to have it, so that one cannot be told again.
func storeBlocks(t *testing.T, l *eventlog.Log, token event.Token) {
	const events, size = 30, 900 << 10 // a block has 8 MiB
	body := strings.Repeat("x", size)
	for n := range events {
		publish(t, l, token, "id"+strconv.Itoa(n), body)
	}
}

// lookInto has the server that is asked find out that the second block is damaged:
// it does when it reads there.
func lookInto(t *testing.T, l *eventlog.Log, token event.Token) {
	_, _ = l.Read(t.Context(), 0, token, 12, 1, 1)
}

// TestUnreadableEventIsNoticed: a server that finds a flipped bit only when it
// reads passes over the event, and goes on counting it.
func TestUnreadableEventIsNoticed(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	reg := prometheus.NewRegistry()
	l, err := eventlog.Open(t.Context(), s.JetStream(), config(), quiet(), reg)
	require.NoError(t, err)
	token := tokensOf(l, 0, 1)[0]
	for n := range 9 {
		publish(t, l, token, "id"+strconv.Itoa(n), strings.Repeat("x", 1000))
	}
	require.Len(t, read(t, l, token, 1, 100, 1<<20).Messages, 9)
	unreadable := func() float64 {
		families, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "gateway_log_unreadable_reads_total" {
				return f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		return -1
	}
	require.Zero(t, unreadable())

	s.Shutdown()
	damages["a bit is flipped"](t, filepath.Join(filepath.Dir(secondBlock(s.Data())), "1.blk"))
	s.Start()
	require.Len(t, read(t, l, token, 1, 100, 1<<20).Messages, 8)
	require.Positive(t, unreadable())
}

// TestDamagedReplicaIsNoticed: a server that has lost a part of a file answers
// reads as if nothing had stood there. Each node whose server it is, or leads,
// says so, and when the server has its events again daemons are sent all.
func TestDamagedReplicaIsNoticed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a bit is flipped", "it is cut"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testserver.NATSCluster(t, 3)
			cfg := config(func(c *eventlog.Config) { c.StreamReplicas, c.EventsPerOrchestrator = 3, 1<<20 })
			l := open(t, c.JetStream(), cfg)
			token := tokensOf(l, 0, 1)[0]
			storeBlocks(t, l, token)
			leader := c.StreamLeader(c.JetStream(), event.StreamName(0))
			victim := c.Nodes[0]
			if victim == leader {
				victim = c.Nodes[1]
			}
			// The connection stays with the server whose replica is to be damaged.
			near := open(t, testserver.JetStream(t, victim.ClientURL(), nats.IgnoreDiscoveredServers()), cfg)
			auditor := eventlog.NewAuditor(near)
			found, err := insist(func() (eventlog.Finding, error) { return auditor.Look(t.Context(), 0) })
			require.NoError(t, err)
			require.Zero(t, found)

			victim.Kill()
			damages[name](t, secondBlock(victim.Data))
			victim.Start()
			epoch := l.Epoch(0)
			require.Eventually(t, func() bool {
				lookInto(t, near, token)
				found, err := auditor.Look(t.Context(), 0)
				return err == nil && found.Different > 0
			}, waitTime, time.Millisecond)
			require.Equal(t, epoch, l.Epoch(0))

			victim.Kill()
			require.NoError(t, os.RemoveAll(filepath.Dir(filepath.Dir(secondBlock(victim.Data)))))
			victim.Start()
			require.Eventually(t, func() bool {
				found, err := auditor.Look(t.Context(), 0)
				return err == nil && found.Different == 0
			}, waitTime, time.Millisecond)
			require.True(t, near.Epoch(0).Newer(epoch), "what was passed over is sent again")
		})
	}
}

// TestEventsThatVanishAreNoticed: a server that is alone has nobody to be compared
// with but itself before.
func TestEventsThatVanishAreNoticed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"it is cut", "it is gone"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := setup(t, func(c *eventlog.Config) { c.EventsPerOrchestrator = 1 << 20 })
			token := tokensOf(l, 0, 1)[0]
			storeBlocks(t, l, token)
			auditor := eventlog.NewAuditor(l)
			found, err := insist(func() (eventlog.Finding, error) { return auditor.Look(t.Context(), 0) })
			require.NoError(t, err)
			require.Zero(t, found)

			s.Shutdown()
			damages[name](t, secondBlock(s.Data()))
			s.Start()
			require.Eventually(t, func() bool {
				lookInto(t, l, token)
				found, err := auditor.Look(t.Context(), 0)
				return err == nil && found.Vanished > 0
			}, waitTime, time.Millisecond)
		})
	}
}

// TestLimitsAreNotTakenForDamage: what goes because an orchestrator has too many
// events is no finding, while more come in.
func TestLimitsAreNotTakenForDamage(t *testing.T) {
	t.Parallel()
	_, l := setup(t, func(c *eventlog.Config) { c.EventsPerOrchestrator = 5 })
	auditor := eventlog.NewAuditor(l)
	tokens := tokensOf(l, 0, 3)
	ctx, stop := context.WithCancel(t.Context())
	published := make(chan struct{})
	go func() {
		defer close(published)
		for n := 0; ctx.Err() == nil; n++ {
			_, _ = l.Publish(ctx, tokens[n%3], "id"+strconv.Itoa(n), []byte("x"))
		}
	}()
	for range 200 {
		found, err := insist(func() (eventlog.Finding, error) { return auditor.Look(t.Context(), 0) })
		require.NoError(t, err)
		require.Zero(t, found)
	}
	stop()
	<-published
}
