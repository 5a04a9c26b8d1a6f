package bridge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func partitionOf(orchestrator string, cfg Config) event.Partition {
	return event.PartitionOf(event.Token(orchestrator), cfg.Log.Partitions)
}

// TestFullPartitionIsWaitedFor: what it refuses is held, in order, holds up no
// other partition, and is no dead letter.
func TestFullPartitionIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.Log.LogMaxBytes = 1 << 20
	a := s.start(cfg).ready()
	other := "other"
	for partitionOf(other, cfg) == partitionOf("vp", cfg) {
		other += "+"
	}
	js, client := s.nats.JetStream(), s.publisher()
	filler := event.Subject(partitionOf("vp", cfg), "filler")
	var err error
	for err == nil {
		_, err = js.Publish(t.Context(), filler, []byte(strings.Repeat("x", 16<<10)))
	}
	const events = 20
	var bodies []string
	for n := range events {
		bodies = append(bodies, strings.Replace(eventJSON("vp", n), `"payload":{`, `"payload":{"fill":"`+strings.Repeat("x", 20<<10)+`",`, 1))
	}
	publish(t, client, "daemon:events", bodies...)
	eventually(t, func() bool { return testutil.ToFloat64(a.metrics.retries) > 3 && a.pump.depth() == events }, "all are held and tried again")
	publish(t, client, "daemon:events", eventJSON(other, 0))
	eventually(t, func() bool { return a.intoLog() == 1 }, "another partition is not held up")

	stream, err := js.Stream(t.Context(), event.StreamName(partitionOf("vp", cfg)))
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject(filler)))
	a.settled(events + 1)
	require.Equal(t, eventIDs("vp", 0, events), ids(s.stored(cfg.Log.Partitions)["vp"]))
	require.Empty(t, s.deadLetters())
	require.Zero(t, testutil.ToFloat64(a.metrics.dropped))
}

// TestAnswersOfTheLogThatAreLost: what was stored and not confirmed is published
// again, and stored once, in order.
func TestAnswersOfTheLogThatAreLost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	network := testserver.NATSProxy(t, s.nats)
	cfg.NATS.NATSURL = []settings.URL{settings.URL(network.URL())}
	a := s.start(cfg).ready()
	client := s.publisher()
	const rounds, orchestrators = 3, 5
	for round := range rounds {
		network.HoldAnswers()
		for o := range orchestrators {
			vp := fmt.Sprintf("vp-%d", o)
			publish(t, client, "daemon:events", eventJSON(vp, 2*round), eventJSON(vp, 2*round+1))
		}
		eventually(t, func() bool {
			stored := s.stored(cfg.Log.Partitions)
			return len(stored) == orchestrators && len(stored["vp-0"]) == 2*round+1
		}, "the first of each is stored")
		network.Cut()
		network.Heal()
		a.settled((round + 1) * 2 * orchestrators)
	}
	for o := range orchestrators {
		vp := fmt.Sprintf("vp-%d", o)
		require.Equal(t, eventIDs(vp, 0, 2*rounds), ids(s.stored(cfg.Log.Partitions)[vp]))
	}
	require.GreaterOrEqual(t, testutil.ToFloat64(a.metrics.duplicates), float64(rounds))
	require.Empty(t, s.deadLetters())
}

// TestClusterWithoutAMajorityIsWaitedFor: the bridge holds what it hears, and
// goes on by itself.
func TestClusterWithoutAMajorityIsWaitedFor(t *testing.T) {
	t.Parallel()
	cluster := testserver.NATSCluster(t, 3)
	s := &site{t: t, redis: testserver.Redis(t)}
	cfg := settings.Default[Config]()
	cfg.Admin.AdminAddr = "127.0.0.1:0"
	cfg.Redis.RedisURL = settings.URL(s.redis.URL())
	cfg.Log.Partitions, cfg.Log.StreamReplicas = 1, 3
	for _, node := range cluster.Nodes {
		cfg.NATS.NATSURL = append(cfg.NATS.NATSURL, settings.URL(node.ClientURL()))
	}
	a := s.start(cfg).ready()
	client := s.publisher()
	publish(t, client, "daemon:events", eventJSON("vp", 0))
	a.settled(1)
	for _, node := range cluster.Nodes[:2] {
		node.Pause()
	}
	const events = 30
	for n := 1; n < events; n++ {
		publish(t, client, "daemon:events", eventJSON("vp", n))
	}
	eventually(t, func() bool { return a.pump.depth() == events-1 && testutil.ToFloat64(a.metrics.retries) > 1 }, "all are held and tried again")
	for _, node := range cluster.Nodes[:2] {
		node.Resume()
	}
	a.settled(events)
	var stored []string
	for _, body := range messages(t, cluster.JetStream(), event.StreamName(0), event.Subject(0, event.SentinelToken)) {
		e, err := event.Parse(body, event.DefaultMaxBytes)
		require.NoError(t, err)
		stored = append(stored, e.ID)
	}
	require.Equal(t, eventIDs("vp", 0, events), stored)
	require.Zero(t, testutil.ToFloat64(a.metrics.rejected.Of(event.ReasonRefused)))
	require.Empty(t, messages(t, cluster.JetStream(), eventlog.DeadletterStream, ""))
}
