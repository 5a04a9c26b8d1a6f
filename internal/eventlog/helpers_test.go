package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const waitTime = testserver.Patience

// patient is for followers that nothing disturbs: a slow machine may be silent.
func patient(f *jet.Following) { f.Silence = waitTime }

// config returns the defaults with few partitions.
func config(change ...func(*eventlog.Config)) eventlog.Config {
	cfg := settings.Default[eventlog.Config]()
	cfg.Partitions = 2
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// open opens a log on the server over a connection of its own.
func open(t *testing.T, js jetstream.JetStream, cfg eventlog.Config, options ...eventlog.Option) *eventlog.Log {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	defer cancel()
	l, err := eventlog.Open(ctx, js, cfg, quiet(), prometheus.NewPedanticRegistry(), options...)
	require.NoError(t, err)
	return l
}

// setup starts a server and opens a log on it.
func setup(t *testing.T, change ...func(*eventlog.Config)) (*testserver.NATSServer, *eventlog.Log) {
	t.Helper()
	s := testserver.NATS(t)
	return s, open(t, s.JetStream(), config(change...))
}

// tokensOf returns n different orchestrators of a partition.
func tokensOf(l *eventlog.Log, p event.Partition, n int) []event.Token {
	var tokens []event.Token
	for i := 0; len(tokens) < n; i++ {
		if token := event.Token(fmt.Sprintf("orchestrator-%d", i)); l.Partition(token) == p {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// insist repeats a request as its callers do, also where a slow machine takes
// longer than the log's limits.
func insist[T any](request func() (T, error)) (T, error) {
	for {
		answer, err := request()
		if !eventlog.Retryable(err) {
			return answer, err
		}
	}
}

// stored publishes an event until the log has it.
func stored(t *testing.T, l *eventlog.Log, token event.Token, id string, body []byte) (eventlog.Ack, error) {
	return insist(func() (eventlog.Ack, error) { return l.Publish(t.Context(), token, id, body) })
}

// untilFull is stored for a log that may be full.
func untilFull(t *testing.T, l *eventlog.Log, token event.Token, id string, body []byte) (eventlog.Ack, error) {
	for {
		ack, err := l.Publish(t.Context(), token, id, body)
		if !errors.Is(err, eventlog.ErrUnavailable) {
			return ack, err
		}
	}
}

// publish stores an event of the orchestrator and returns its sequence.
func publish(t *testing.T, l *eventlog.Log, token event.Token, id, body string) uint64 {
	t.Helper()
	ack, err := stored(t, l, token, id, []byte(body))
	require.NoError(t, err)
	return ack.Sequence
}

func read(t *testing.T, l *eventlog.Log, token event.Token, from uint64, maxEvents, maxBytes int) eventlog.Page {
	t.Helper()
	page, err := insist(func() (eventlog.Page, error) {
		return l.Read(t.Context(), l.Partition(token), token, from, maxEvents, maxBytes)
	})
	require.NoError(t, err)
	return page
}

func lastSequences(t *testing.T, l *eventlog.Log, p event.Partition, tokens ...event.Token) []eventlog.Last {
	t.Helper()
	last, err := insist(func() ([]eventlog.Last, error) { return l.LastSequences(t.Context(), p, tokens) })
	require.NoError(t, err)
	return last
}

func sequences(page eventlog.Page) []uint64 {
	var list []uint64
	for _, m := range page.Messages {
		list = append(list, m.Sequence)
	}
	return list
}

// electing returns a JetStream that leaves the first request of each subject
// with a certain part unanswered, as servers do that elect a leader.
func electing(t *testing.T, s *testserver.NATSServer, part string) jetstream.JetStream {
	t.Helper()
	return intercepted(t, s, part, func(*nats.Msg) {})
}

// intercepted returns a JetStream of which the first request of each subject
// with a certain part does not get to the server.
func intercepted(t *testing.T, s *testserver.NATSServer, part string, instead func(*nats.Msg)) jetstream.JetStream {
	t.Helper()
	js := s.JetStream()
	var ignored sync.Map
	testserver.Answer(t, js.Conn(), "ELECTING.>", func(m *nats.Msg) {
		subject := strings.TrimPrefix(m.Subject, "ELECTING.")
		if !strings.HasPrefix(subject, "$KV.") { // a bucket's keys are no requests to the API
			subject = "$JS.API." + subject
		}
		if _, again := ignored.LoadOrStore(subject, true); !again && strings.Contains(subject, part) {
			instead(m)
			return
		}
		_ = js.Conn().PublishMsg(&nats.Msg{Subject: subject, Reply: m.Reply, Header: m.Header, Data: m.Data})
	})
	prefixed, err := jetstream.NewWithAPIPrefix(js.Conn(), "ELECTING")
	require.NoError(t, err)
	return prefixed
}
