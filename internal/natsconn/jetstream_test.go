package natsconn_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/natsconn"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// JetStream was switched off, or the name leads to another server: the connection
// works, and nothing that needs it.
// Reports: nats-io/k8s#723.
func TestAServerWithoutJetStreamIsLeftForAnother(t *testing.T) {
	t.Parallel()
	without := testserver.NATS(t, func(o *server.Options) { o.JetStream = false })
	with := testserver.NATS(t)
	with.Shutdown()
	cfg := settings.Default[natsconn.Config]()
	cfg.NATSURL = []settings.URL{settings.URL(without.ClientURL()), settings.URL(with.ClientURL())}
	c, err := natsconn.Connect(t.Context(), cfg, "test", slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry(), nil)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	require.Eventually(t, func() bool {
		ok, detail := c.Check()
		return !ok && strings.Contains(detail, without.ClientURL()+", but there is no JetStream")
	}, waitTime, 10*time.Millisecond, "it is said")
	require.Eventually(t, c.Up, waitTime, 10*time.Millisecond, "what needs no JetStream works")
	with.Start()
	require.Eventually(t, func() bool {
		ok, detail := c.Check()
		return ok && detail == "connected to "+with.ClientURL()
	}, waitTime, 10*time.Millisecond, "another server is found")
	cancel()
	require.NoError(t, <-ended)
}

// A name that leads to another cluster, or a user who was moved to another account,
// is noticed by nothing else: JetStream is there, and answers.
func TestAServerWhoseStreamsAreNotThoseOfBeforeIsLeft(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	js := s.JetStream()
	bucket := jetstream.KeyValueConfig{Bucket: "gateway_cluster"}
	_, err := js.CreateKeyValue(t.Context(), bucket)
	require.NoError(t, err)
	asked := make(chan *nats.Msg, 100)
	testserver.Answer(t, js.Conn(), "$JS.API.STREAM.INFO.KV_gateway_cluster", func(m *nats.Msg) { asked <- m })
	again := make(chan struct{}, 100)
	c, _ := connect(t, s.ClientURL(), func() { again <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-asked
	<-asked // so that the first was answered
	require.NoError(t, js.DeleteKeyValue(t.Context(), bucket.Bucket))
	require.Eventually(t, func() bool {
		ok, detail := c.Check()
		return !ok && strings.Contains(detail, s.ClientURL()+", but the gateway's streams are not there any more")
	}, waitTime, 10*time.Millisecond, "it is said")
	<-again
	_, err = js.CreateKeyValue(t.Context(), bucket)
	require.NoError(t, err)
	require.Eventually(t, ready(c), waitTime, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

// Regression: where the name led to another cluster before the streams were looked
// for once, a node that had opened its log there stayed ready.
func TestStreamsThatWereFoundAreMissedFromTheFirstLookOn(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	c, _ := connect(t, s.ClientURL(), nil)
	require.Eventually(t, ready(c), waitTime, time.Millisecond)
	c.FoundStreams()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	require.Eventually(t, func() bool {
		ok, detail := c.Check()
		return !ok && strings.Contains(detail, s.ClientURL()+", but the gateway's streams are not there any more")
	}, waitTime, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

// A leaf node whose hub is away, or a mistake in the domain.
func TestADomainThatNobodyHasIsNamed(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	c, _ := connect(t, s.ClientURL(), nil, func(cfg *natsconn.Config) { cfg.NATSJetStreamDomain = "hub" })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	require.Eventually(t, func() bool {
		ok, detail := c.Check()
		return !ok && strings.Contains(detail, "there is no JetStream of the domain hub behind it")
	}, waitTime, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}
