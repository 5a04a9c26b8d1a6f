package publisher_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const patience = testserver.Patience

// partition is the stream of a log with one partition.
func partition() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: event.StreamName(0), Subjects: []string{event.Subject(0, "*")}, Discard: jetstream.DiscardNew, Duplicates: time.Minute,
	}
}

func messages(t *testing.T, stream jetstream.Stream) uint64 {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		return 0
	}
	return info.State.Msgs
}

// untilStored is what a backend does: it publishes until the event is stored.
func untilStored(t *testing.T, p *publisher.Publisher, e event.Event) publisher.Ack {
	t.Helper()
	var ack publisher.Ack
	require.Eventually(t, func() bool {
		var err error
		ack, err = p.Publish(t.Context(), e)
		return err == nil
	}, patience, 10*time.Millisecond)
	return ack
}

func TestEventWhoseAnswerIsLostOrLateIsRepeatedAndStoredOnce(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]bool{"lost with its connection": true, "late": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testserver.NATS(t)
			stream, err := s.JetStream().CreateStream(t.Context(), partition())
			require.NoError(t, err)
			network := testserver.NATSProxy(t, s)
			nc, err := nats.Connect(network.URL(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
				nats.ReconnectWait(10*time.Millisecond), nats.ReconnectBufSize(-1))
			require.NoError(t, err)
			t.Cleanup(nc.Close)
			js, err := jetstream.New(nc)
			require.NoError(t, err)
			p, err := publisher.New(js, publisher.Config{Partitions: 1})
			require.NoError(t, err)

			require.Eventually(t, nc.IsConnected, patience, time.Millisecond)
			network.HoldAnswers()
			stored := func() bool { return messages(t, stream) == 1 }
			failed := make(chan error, 1)
			go func() {
				for { // a try may end before the event is there
					bounded, cancel := context.WithTimeout(t.Context(), time.Second)
					_, err := p.Publish(bounded, sample("e1"))
					cancel()
					if err == nil || stored() {
						failed <- err
						return
					}
				}
			}()
			require.Eventually(t, stored, patience, time.Millisecond)
			if lost {
				network.Cut()
			}
			require.ErrorIs(t, <-failed, publisher.ErrUnavailable)
			network.Heal()
			require.True(t, untilStored(t, p, sample("e1")).Duplicate)
			require.EqualValues(t, 1, messages(t, stream))
		})
	}
}

func TestFullLogTakesEventsAgainWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	js := s.JetStream()
	small := partition()
	small.MaxBytes = 1024
	stream, err := js.CreateStream(t.Context(), small)
	require.NoError(t, err)
	p, err := publisher.New(js, publisher.Config{Partitions: 1})
	require.NoError(t, err)
	n := 0
	for ; err == nil; n++ {
		_, err = p.Publish(t.Context(), sample(fmt.Sprintf("e%d", n)))
	}
	require.ErrorIs(t, err, publisher.ErrFull)
	require.EqualValues(t, n-1, messages(t, stream), "nothing is dropped for what is new")
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeKeep(1)))
	ack, err := p.Publish(t.Context(), sample(fmt.Sprintf("e%d", n-1)))
	require.NoError(t, err)
	require.False(t, ack.Duplicate, "what was refused counts as never published")
}

func TestEventsAreTakenAgainOnceTheClusterHasAMajority(t *testing.T) {
	t.Parallel()
	c := testserver.NATSCluster(t, 3)
	js := c.JetStream()
	replicated := partition()
	replicated.Replicas = 3
	c.CreateStream(js, replicated)
	p, err := publisher.New(js, publisher.Config{Partitions: 1})
	require.NoError(t, err)
	untilStored(t, p, sample("before"))
	connected := js.Conn().ConnectedUrl()
	for _, node := range c.Nodes {
		if node.ClientURL() != connected {
			node.Pause()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = p.Publish(ctx, sample("e1"))
	require.ErrorIs(t, err, publisher.ErrUnavailable)
	for _, node := range c.Nodes {
		node.Resume()
	}
	first := untilStored(t, p, sample("e1"))
	again := untilStored(t, p, sample("e1"))
	require.Equal(t, first.Sequence, again.Sequence)
	require.True(t, again.Duplicate)
}

func TestEventIsStoredAgainAfterTheDuplicateWindow(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	js := s.JetStream()
	forgetful := partition()
	forgetful.Duplicates = 100 * time.Millisecond
	_, err := js.CreateStream(t.Context(), forgetful)
	require.NoError(t, err)
	p, err := publisher.New(js, publisher.Config{Partitions: 1})
	require.NoError(t, err)
	first := untilStored(t, p, sample("e1"))
	var again publisher.Ack
	require.Eventually(t, func() bool {
		again = untilStored(t, p, sample("e1"))
		return !again.Duplicate
	}, patience, 10*time.Millisecond)
	require.Greater(t, again.Sequence, first.Sequence)
}
