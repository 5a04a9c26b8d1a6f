package publisher_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

// startNATS runs a NATS server whose log has one partition's stream of at most
// maxBytes.
func startNATS(dir string, maxBytes int64) (*server.Server, jetstream.JetStream, error) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		return nil, nil, err
	}
	go s.Start()
	if !s.ReadyForConnections(testserver.Patience) {
		return nil, nil, fmt.Errorf("the NATS server is not ready")
	}
	nc, err := nats.Connect(s.ClientURL(), nats.Timeout(testserver.Patience), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testserver.Patience))
	if err != nil {
		return nil, nil, err
	}
	_, err = js.CreateStream(context.Background(), jetstream.StreamConfig{
		Name: event.StreamName(0), Subjects: []string{event.Subject(0, "*")}, Discard: jetstream.DiscardNew, MaxBytes: maxBytes, Duplicates: time.Minute,
	})
	return s, js, err
}

func setup(t *testing.T, maxBytes int64) (*server.Server, jetstream.JetStream, *publisher.Publisher) {
	t.Helper()
	s, js, err := startNATS(t.TempDir(), maxBytes)
	require.NoError(t, err)
	t.Cleanup(func() {
		js.Conn().Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
	p, err := publisher.New(js, publisher.Config{Partitions: 1})
	require.NoError(t, err)
	return s, js, p
}

func sample(id string) event.Event {
	return event.Event{ID: id, Type: "message.received", OrchestratorID: "a.b", Payload: []byte(`{ "content":"<b>" }`), RequiresAck: true}
}

func TestEventIsStoredOnceUnderItsSubjectWithItsPayloadAsItIs(t *testing.T) {
	t.Parallel()
	_, js, p := setup(t, 1<<20)
	first, err := p.Publish(t.Context(), sample("e1"))
	require.NoError(t, err)
	again, err := p.Publish(t.Context(), sample("e1"))
	require.NoError(t, err)
	require.Equal(t, publisher.Ack{Sequence: first.Sequence, Duplicate: true}, again)

	stream, err := js.Stream(t.Context(), event.StreamName(0))
	require.NoError(t, err)
	msg, err := stream.GetMsg(t.Context(), first.Sequence)
	require.NoError(t, err)
	require.Equal(t, "daemon.events.0.a=2Eb", msg.Subject)
	require.Equal(t, "a=2Eb/e1", msg.Header.Get(nats.MsgIdHdr))
	require.Contains(t, string(msg.Data), `"payload":{ "content":"<b>" }`)
}

func TestSameIDOfTwoOrchestratorsIsStoredTwice(t *testing.T) {
	t.Parallel()
	_, _, p := setup(t, 1<<20)
	_, err := p.Publish(t.Context(), sample("e1"))
	require.NoError(t, err)
	other := sample("e1")
	other.OrchestratorID = "other"
	ack, err := p.Publish(t.Context(), other)
	require.NoError(t, err)
	require.False(t, ack.Duplicate)
}

func TestInvalidEventIsRefusedBeforeItIsPublished(t *testing.T) {
	t.Parallel()
	_, _, p := setup(t, 1<<20)
	bad := sample("e1")
	bad.Type = "nonsense"
	_, err := p.Publish(t.Context(), bad)
	var invalid *event.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, "type", invalid.Field)
	require.False(t, publisher.Retryable(err))
}

func TestFullLogIsSaidAndRetryable(t *testing.T) {
	t.Parallel()
	_, _, p := setup(t, 1024)
	var err error
	for i := 0; err == nil; i++ {
		_, err = p.Publish(t.Context(), sample(fmt.Sprintf("e%d", i)))
	}
	require.ErrorIs(t, err, publisher.ErrFull)
	require.True(t, publisher.Retryable(err))
}

// Regression: where somebody has limited the number of messages, a full partition was
// said to be unavailable, as one that has no leader.
func TestAFullLogSaysWhichLimitItIs(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limit func(*jetstream.StreamConfig)
		says  string
	}{
		"max_msgs":  {func(cfg *jetstream.StreamConfig) { cfg.MaxMsgs = 2 }, "event log full: the partition has as many events as its stream's max_msgs"},
		"max_bytes": {func(cfg *jetstream.StreamConfig) { cfg.MaxBytes = 1024 }, "event log full: the partition has as many bytes as it may"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := testserver.NATS(t).JetStream()
			limited := partition()
			tt.limit(&limited)
			stream, err := js.CreateStream(t.Context(), limited)
			require.NoError(t, err)
			p, err := publisher.New(js, publisher.Config{Partitions: 1})
			require.NoError(t, err)
			n := 0
			for ; err == nil; n++ {
				_, err = p.Publish(t.Context(), sample(fmt.Sprintf("e%d", n)))
			}
			require.ErrorIs(t, err, publisher.ErrFull)
			require.NotErrorIs(t, err, publisher.ErrUnavailable)
			require.True(t, publisher.Retryable(err))
			require.ErrorContains(t, err, tt.says)
			require.NoError(t, stream.Purge(t.Context()))
			_, err = p.Publish(t.Context(), sample(fmt.Sprintf("e%d", n-1)))
			require.NoError(t, err)
		})
	}
}

func TestAServerWithoutStorageIsSaidToHaveNone(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t, func(o *server.Options) { o.JetStreamMaxStore = 2048 }).JetStream()
	unlimited := partition()
	_, err := js.CreateStream(t.Context(), unlimited)
	require.NoError(t, err)
	p, err := publisher.New(js, publisher.Config{Partitions: 1})
	require.NoError(t, err)
	for n := 0; err == nil; n++ {
		require.Less(t, n, 1000)
		_, err = p.Publish(t.Context(), sample(fmt.Sprintf("e%d", n)))
	}
	require.ErrorIs(t, err, publisher.ErrFull)
	require.ErrorContains(t, err, "no storage left")
}

func TestLogThatIsAwayIsSaidAndRetryable(t *testing.T) {
	t.Parallel()
	s, _, p := setup(t, 1<<20)
	s.Shutdown()
	s.WaitForShutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := p.Publish(ctx, sample("e1"))
	require.ErrorIs(t, err, publisher.ErrUnavailable)
}

func TestJSONIsStoredAsItIs(t *testing.T) {
	t.Parallel()
	_, js, p := setup(t, 1<<20)
	body := "{\n \"id\":\"e1\", \"extra\":1, \"type\":\"a.b\",\"orchestratorId\":\"o\",\"payload\":{ \"x\": \"<\\u00fc>\" } }\n"
	ack, err := p.PublishJSON(t.Context(), []byte(body))
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), event.StreamName(0))
	require.NoError(t, err)
	msg, err := stream.GetMsg(t.Context(), ack.Sequence)
	require.NoError(t, err)
	require.Equal(t, body, string(msg.Data))

	_, err = p.PublishJSON(t.Context(), []byte("nonsense"))
	var invalid *event.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, event.ReasonNotJSON, invalid.Reason)
}

func TestEventGoesToTheStreamOfItsPartition(t *testing.T) {
	t.Parallel()
	_, js, _ := setup(t, 1<<20)
	for p := range event.Partition(3) {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: event.StreamName(p + 1), Subjects: []string{event.Subject(p+1, "*")}})
		require.NoError(t, err)
	}
	p, err := publisher.New(js, publisher.Config{Partitions: 4})
	require.NoError(t, err)
	for i := range 50 {
		e := sample("e")
		e.OrchestratorID = protocol.OrchestratorID(fmt.Sprintf("orchestrator-%d", i))
		ack, err := p.Publish(t.Context(), e)
		require.NoError(t, err)
		require.Equal(t, event.PartitionOf(event.TokenOf(e.OrchestratorID), 4), ack.Partition)
	}
}

func TestWhatIsTriedAgainAndWhatIsNot(t *testing.T) {
	t.Parallel()
	t.Run("the stream is missing", func(t *testing.T) {
		t.Parallel()
		_, js, p := setup(t, 1<<20)
		require.NoError(t, js.DeleteStream(t.Context(), event.StreamName(0)))
		_, err := p.Publish(t.Context(), sample("e1"))
		require.ErrorIs(t, err, publisher.ErrUnavailable)
		require.True(t, publisher.Retryable(err))
	})
	t.Run("the caller gave up", func(t *testing.T) {
		t.Parallel()
		_, _, p := setup(t, 1<<20)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := p.Publish(ctx, sample("e1"))
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, publisher.Retryable(err))
	})
	t.Run("the connection is closed", func(t *testing.T) {
		t.Parallel()
		_, js, p := setup(t, 1<<20)
		js.Conn().Close()
		_, err := p.Publish(t.Context(), sample("e1"))
		require.ErrorIs(t, err, nats.ErrConnectionClosed)
		require.False(t, publisher.Retryable(err))
	})
	t.Run("the stream takes no message of that size", func(t *testing.T) {
		t.Parallel()
		_, js, p := setup(t, 1<<20)
		stream, err := js.Stream(t.Context(), event.StreamName(0))
		require.NoError(t, err)
		cfg := stream.CachedInfo().Config
		cfg.MaxMsgSize = 10
		_, err = js.UpdateStream(t.Context(), cfg)
		require.NoError(t, err)
		_, err = p.Publish(t.Context(), sample("e1"))
		require.Error(t, err)
		require.False(t, publisher.Retryable(err))
	})
}

// What the log says in words that nobody knows says nothing of the event.
func TestAnswerThatNobodyKnowsIsRetryable(t *testing.T) {
	t.Parallel()
	_, js, p := setup(t, 1<<20)
	require.NoError(t, js.DeleteStream(t.Context(), event.StreamName(0)))
	answer := `{"error":{"code":400,"err_code":19999,"description":"something new"},"stream":"` + event.StreamName(0) + `","seq":0}`
	testserver.Answer(t, js.Conn(), event.Subject(0, "*"), func(m *nats.Msg) { _ = m.Respond([]byte(answer)) })
	_, err := p.Publish(t.Context(), sample("e1"))
	require.ErrorIs(t, err, publisher.ErrUnavailable)
	require.True(t, publisher.Retryable(err))
}

// TestNumberOfPartitionsIsTheClusters (invariant 1): an event under another
// partition's subject is acknowledged, and nobody reads it.
func TestNumberOfPartitionsIsTheClusters(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	js := s.JetStream()
	p, err := publisher.New(js, publisher.Config{})
	require.NoError(t, err)
	_, err = p.Publish(t.Context(), sample("e1"))
	require.ErrorIs(t, err, publisher.ErrUnavailable, "there is no cluster yet")
	cfg := settings.Default[eventlog.Config]()
	cfg.Partitions = 5
	log, err := eventlog.Open(t.Context(), js, cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	var group errgroup.Group
	for n := range 20 {
		group.Go(func() error {
			e := sample("e2")
			e.OrchestratorID = protocol.OrchestratorID(fmt.Sprint("orchestrator", n))
			ack, err := p.Publish(t.Context(), e)
			if err == nil && ack.Partition != log.Partition(event.TokenOf(e.OrchestratorID)) {
				err = fmt.Errorf("event of %s is in partition %d", e.OrchestratorID, ack.Partition)
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
}

func TestNonsensicalConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	_, err := publisher.New(nil, publisher.Config{Partitions: -1})
	require.ErrorContains(t, err, "-1 partitions")
}

// Regression: a publish that was repeated because its answer took too long met
// the first one still waiting for a majority, and was reported as an error that
// no repetition mends.
// Reports: nats-io/nats-server#6415.
func TestEventThatIsStillBeingStoredIsRetryable(t *testing.T) {
	t.Parallel()
	_, js, p := setup(t, 1<<20)
	require.NoError(t, js.DeleteStream(t.Context(), event.StreamName(0)))
	answer := `{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"},"stream":"` + event.StreamName(0) + `","seq":0}`
	testserver.Answer(t, js.Conn(), event.Subject(0, "*"), func(m *nats.Msg) { _ = m.Respond([]byte(answer)) })
	_, err := p.Publish(t.Context(), sample("e1"))
	require.ErrorIs(t, err, publisher.ErrUnavailable)
	require.True(t, publisher.Retryable(err))
}

// The gateway's routers read an event's place in its trace without reading the event.
func TestAnEventsTraceStandsInItsHeadersToo(t *testing.T) {
	t.Parallel()
	_, js, p := setup(t, 1<<20)
	stream, err := js.Stream(t.Context(), event.StreamName(0))
	require.NoError(t, err)
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for n, test := range []struct{ traceparent, tracestate, header, state string }{
		{traceparent, "vendor=1", traceparent, "vendor=1"}, {traceparent, "", traceparent, ""}, {"nonsense\r\nX: y", "vendor=1", "", ""}, {},
		// JetStream takes no headers of 64 KiB.
		{traceparent, strings.Repeat("vendor=1,", 8<<10), traceparent, ""}, {"01" + traceparent[2:] + "-" + strings.Repeat("later", 16<<10), "", "", ""},
	} {
		e := sample(fmt.Sprint("traced-", n))
		e.Trace = &event.TraceContext{Traceparent: test.traceparent, Tracestate: test.tracestate}
		ack, err := p.Publish(t.Context(), e)
		require.NoError(t, err)
		msg, err := stream.GetMsg(t.Context(), ack.Sequence)
		require.NoError(t, err)
		require.Equal(t, []string{test.header, test.state}, []string{msg.Header.Get("traceparent"), msg.Header.Get("tracestate")})
		stored, err := event.Parse(msg.Data, event.DefaultMaxBytes)
		require.NoError(t, err)
		require.Equal(t, test.traceparent, stored.Traceparent(), "it is stored as it was published")
	}
}
