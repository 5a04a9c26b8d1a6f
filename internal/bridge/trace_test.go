package bridge

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// storedOf returns the first event of an orchestrator in the log, once it is there.
func (s *site) storedOf(orchestrator string) (found *jetstream.RawStreamMsg) {
	s.t.Helper()
	token := event.TokenOf(orchestrator)
	p := event.PartitionOf(token, s.config().Log.Partitions)
	eventually(s.t, func() bool {
		stream, err := s.nats.JetStream().Stream(s.t.Context(), event.StreamName(p))
		if err != nil {
			return false
		}
		found, err = stream.GetLastMsgForSubject(s.t.Context(), event.Subject(p, token))
		return err == nil
	}, "the event is stored")
	return found
}

func traced(orchestrator, traceparent string) string {
	text := eventJSON(orchestrator, 1)
	return text[:len(text)-1] + `,"traceparent":"` + traceparent + `","tracestate":"vendor=1"}`
}

func TestWithoutACollectorAnEventIsStoredWithoutAnythingOfTraces(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(s.config()).ready()
	publish(t, s.publisher(), eventsChannel, traced("vp", traceparent))
	m := s.storedOf("vp")
	require.Equal(t, traced("vp", traceparent), string(m.Data))
	for name := range m.Header {
		require.True(t, strings.HasPrefix(name, "Nats-"), name)
	}
}

func TestAnEventIsStoredInTheTraceOfItsPublisher(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	collector := testserver.NewCollector(t)
	cfg := s.config()
	cfg.Spans.Endpoint = settings.URL(collector.URL)
	b := s.start(cfg).ready()
	redis := s.publisher()
	publish(t, redis, eventsChannel, traced("sampled", traceparent))
	publish(t, redis, eventsChannel, traced("unsampled", traceparent[:53]+"00"))
	publish(t, redis, eventsChannel, traced("malformed", "00-x"))
	header := s.storedOf("sampled").Header
	for _, other := range []string{"unsampled", "malformed"} {
		s.storedOf(other)
	}
	b.stop()
	<-b.done
	require.NoError(t, b.err)
	spans := collector.Spans("")
	require.Len(t, spans, 1)
	require.Equal(t, "stored", spans[0].Name)
	require.Equal(t, "00f067aa0ba902b7", spans[0].Parent)
	require.Equal(t, "00-4bf92f3577b34da6a3ce929d0e0e4736-"+spans[0].ID+"-01", header.Get("traceparent"))
	require.Equal(t, "vendor=1", header.Get("tracestate"))
	require.Equal(t, traceparent[:53]+"00", s.storedOf("unsampled").Header.Get("traceparent"), "it is passed on")
	require.Empty(t, s.storedOf("malformed").Header.Get("traceparent"))
}

func TestAnEventOverHTTPIsInTheTraceOfItsRequestOrItsOwn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	collector := testserver.NewCollector(t)
	cfg := withIntake(t, s.config())
	cfg.Spans.Endpoint = settings.URL(collector.URL)
	const own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	b := s.start(cfg).ready()
	request := b.request(strings.NewReader("[" + eventJSON("requests", 1) + "," + traced("own", own) + "]"))
	request.Header.Set("traceparent", traceparent)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, traceparent[:36], s.storedOf("requests").Header.Get("traceparent")[:36])
	require.Equal(t, eventJSON("requests", 1), string(s.storedOf("requests").Data), "byte for byte")
	require.Equal(t, own[:36], s.storedOf("own").Header.Get("traceparent")[:36])
}

// While it waits for its orchestrator to be known, an event keeps the trace that only its
// request has told.
func TestAnEventOverHTTPThatHasWaitedForItsOrchestratorIsInTheTraceOfItsRequest(t *testing.T) {
	t.Parallel()
	s, db, cfg := neolithSite(t, 1)
	cfg = withIntake(t, cfg)
	cfg.Spans.Endpoint = settings.URL(testserver.NewCollector(t).URL)
	b := s.start(cfg).ready()
	request := b.request(strings.NewReader("[" + eventJSON("user1", 1) + "]"))
	request.Header.Set("traceparent", traceparent)
	request.Header.Set("tracestate", "vendor=1")
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	http.DefaultClient.CloseIdleConnections()
	s.awaitUnresolved(map[string]int{"user1": 1})
	addOrchestrators(t, db, 1, 2)
	header := s.storedOf("vp1").Header
	require.NotEmpty(t, header.Get("traceparent"))
	require.Equal(t, traceparent[:36], header.Get("traceparent")[:36])
	require.Equal(t, "vendor=1", header.Get("tracestate"))
}

// forgetfulStore stores an event at the first try, and answers at the second alone.
type forgetfulStore struct {
	*faultyStore
	mu    sync.Mutex
	tried []*tracing.Context // in which trace
}

func (s *forgetfulStore) PublishAsync(ctx context.Context, _ event.Token, _ string, _ []byte, done func(eventlog.Ack, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = append(s.tried, tracing.From(ctx))
	if len(s.tried) == 1 {
		go done(eventlog.Ack{}, fmt.Errorf("%w: no answer", eventlog.ErrUnavailable))
		return
	}
	go done(eventlog.Ack{Duplicate: true, Sequence: 1}, nil)
}

// exported are records that were.
type exported struct {
	mu      sync.Mutex
	records []trace.Record
}

func (e *exported) Export(r trace.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.records = append(e.records, r)
}

// The event has in the log the place in its trace that the first try gave it.
func TestAnEventWhoseFirstTryStoredItUnheardIsStoredInItsTraceOnce(t *testing.T) {
	t.Parallel()
	sampler, err := tracing.NewSampler("parentbased_always_off", 0)
	require.NoError(t, err)
	in, spans, s := newInbox(10, maxBufferBytes), &exported{}, &forgetfulStore{faultyStore: newFaultyStore()}
	reg := prometheus.NewPedanticRegistry()
	p := newPump(in, nil, nil, func() bool { return true }, event.DefaultMaxBytes, newMetrics(reg), discard)
	p.sampler, p.trace = sampler, trace.New(trace.Config{}, "bridge", "bridge-1", discard, reg)
	p.trace.Export(spans, sampler)
	in.push(heard{channel: eventsChannel, body: []byte(traced("vp", traceparent))})
	in.close()
	require.Zero(t, p.run(t.Context(), s))
	require.Len(t, s.tried, 2)
	require.Equal(t, s.tried[0], s.tried[1])
	require.Len(t, spans.records, 1)
	require.Equal(t, s.tried[0].Parent, spans.records[0].Span.ID)
	require.Equal(t, trace.Stored, spans.records[0].Hops[len(spans.records[0].Hops)-1].Step)
}
