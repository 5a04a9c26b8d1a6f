package testserver_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

func TestNATSKeepsPortAndDataOverRestart(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	url, js := s.ClientURL(), s.JetStream()
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s", []byte("kept"))
	require.NoError(t, err)
	s.Restart()
	require.Equal(t, url, s.ClientURL())
	stream, err := s.JetStream().Stream(t.Context(), "S")
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
	s.Shutdown()
	require.Nil(t, s.Server())
}

func TestRedisStopsAndStartsOnItsPort(t *testing.T) {
	t.Parallel()
	r := testserver.Redis(t)
	client := r.Client()
	require.NoError(t, client.Ping(context.Background()).Err())
	r.Kill()
	require.Error(t, client.Ping(context.Background()).Err())
	r.Start()
	require.NoError(t, client.Ping(context.Background()).Err())
}

func TestNATSClusterSurvivesTheLossOfALeader(t *testing.T) {
	t.Parallel()
	c := testserver.NATSCluster(t, 3)
	js := c.JetStream()
	c.CreateStream(js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: 3})
	leader := c.StreamLeader(js, "S")
	leader.Kill()
	require.Eventually(t, func() bool {
		_, err := js.Publish(t.Context(), "s", []byte("x"))
		return err == nil
	}, testserver.Patience, 50*time.Millisecond)
	require.NotEqual(t, leader.Name(), c.StreamLeader(js, "S").Name())
	leader.Start()
}
