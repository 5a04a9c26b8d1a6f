package otlp_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/internal/tracing/otlp"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// node is an exporter that runs.
type node struct {
	*otlp.Exporter
	reg  *prometheus.Registry
	said *testserver.Journal
	end  func()
}

func export(t testing.TB, cfg otlp.Config) *node { return exportOf(t, cfg, 1000) }

// exportOf exports the spans of one event in so many.
func exportOf(t testing.TB, cfg otlp.Config, one int) *node {
	t.Helper()
	n := &node{reg: prometheus.NewPedanticRegistry(), said: &testserver.Journal{}}
	var err error
	n.Exporter, err = otlp.New(cfg, "edge", "edge-1", one, slog.New(slog.NewJSONHandler(n.said, nil)), n.reg)
	require.NoError(t, err)
	require.NotNil(t, n.Exporter)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	n.end = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	t.Cleanup(n.end)
	return n
}

func (n *node) dropped(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := n.reg.Gather()
	require.NoError(t, err)
	counts := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if v := m.GetCounter().GetValue(); f.GetName() == "gateway_spans_dropped_total" && v > 0 {
				counts[m.GetLabel()[0].GetValue()] = v
			}
		}
	}
	return counts
}

// written is the record of an event that an edge has written.
func written(t *testing.T) trace.Record {
	t.Helper()
	c, ok := tracing.Parse(traceparent, "vendor=1")
	require.True(t, ok)
	at := time.Unix(1000, 500)
	span, _ := trace.NewSpan(&c, at.Add(-time.Second))
	return trace.Record{
		Cause: trace.Sampled, Orchestrator: "vp=2E1", Event: "e/1", Partition: 3, Sequence: 7, Span: span,
		Hops: []trace.Hop{
			{At: at.Add(-2 * time.Second), Step: trace.Stored, Tier: trace.TierLog},
			{At: at, Step: trace.Written, Tier: "edge", Node: "edge-1", Daemon: "d", Session: "s", Detail: "again"},
		},
	}
}

func TestARecordBecomesASpan(t *testing.T) {
	t.Parallel()
	collector := testserver.NewCollector(t)
	n := export(t, otlp.Config{
		Endpoint: settings.URL(collector.URL), Headers: "api-key=a%20b,other=1", ServiceName: "gateway-edge",
		ResourceAttributes: "deployment.environment.name=test, service.name=overruled",
	})
	record := written(t)
	n.Export(record)
	n.end()
	spans := collector.Spans("")
	require.Len(t, spans, 1)
	s := spans[0]
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", s.Trace)
	require.Equal(t, "00f067aa0ba902b7", s.Parent)
	require.Equal(t, "vendor=1", s.State)
	require.Equal(t, "written", s.Name)
	require.Equal(t, []string{"stored"}, s.Events)
	require.True(t, s.Ended.Equal(record.Hops[1].At))
	require.Equal(t, time.Second, s.Ended.Sub(s.Began))
	require.False(t, s.Failed)
	require.Equal(t, map[string]string{
		"gateway.tier": "edge", "gateway.node": "edge-1", "gateway.partition": "3", "gateway.sequence": "7",
		"gateway.orchestrator": "vp=2E1", "gateway.event": "e/1", "gateway.cause": "sampled", "gateway.outcome": "written",
		"gateway.daemon": "d", "gateway.session": "s", "gateway.detail": "again",
	}, s.Attributes)
	require.Subset(t, s.Resource, map[string]string{
		"service.name": "gateway-edge", "service.namespace": "daemon-gateway", "service.instance.id": "edge-1",
		"deployment.environment.name": "test",
	})
	require.Equal(t, []string{"a b", "1"}, []string{collector.Headers().Get("api-key"), collector.Headers().Get("other")})
	require.Equal(t, 1.0, testutil.ToFloat64(counter(t, n)))
	require.Empty(t, n.dropped(t))
}

// counter is that of exported spans.
func counter(t *testing.T, n *node) prometheus.Collector {
	t.Helper()
	families, err := n.reg.Gather()
	require.NoError(t, err)
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "x"})
	for _, f := range families {
		if f.GetName() == "gateway_spans_exported_total" {
			c.Add(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	return c
}

func TestASpanOfAFailureSaysSoAndMayBeginATrace(t *testing.T) {
	t.Parallel()
	collector := testserver.NewCollector(t)
	n := export(t, otlp.Config{TracesEndpoint: settings.URL(collector.URL + "/v1/traces")})
	record := written(t)
	record.Hops[1].Step = trace.DeadLettered
	record.Span.Context = n.Sampler().Late("vp=2E1", "e/1")
	record.Span.Began = record.Hops[1].At.Add(time.Hour) // by a clock that goes ahead
	n.Export(record)
	n.end()
	s := collector.Spans("")[0]
	require.True(t, s.Failed)
	require.Empty(t, s.Parent)
	require.Equal(t, s.Began, s.Ended)
	require.Equal(t, record.Span.Context.ID(), s.Trace)
}

// What is exported is the time of day, which may have been set back or slowed meanwhile: a
// step does not end before it began by that either.
func TestASpanDoesNotEndBeforeItBeganWhereTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	collector := testserver.NewCollector(t)
	n := export(t, otlp.Config{TracesEndpoint: settings.URL(collector.URL + "/v1/traces")})
	record := written(t)
	last := time.Now()
	began := last.Add(10)
	// In a time, after the time of day, stands the monotonic clock, which nothing sets.
	(*[2]int64)(unsafe.Pointer(&began))[1] -= 20
	require.True(t, began.Before(last))
	require.Greater(t, began.UnixNano(), last.UnixNano())
	record.Hops[1].At, record.Span.Began = last, began
	n.Export(record)
	n.end()
	s := collector.Spans("")[0]
	require.Equal(t, s.Ended, s.Began)
}

// The queue has a bound, and whoever exports never waits.
func TestACollectorThatDoesNotAnswerKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	collector := testserver.NewCollector(t)
	release := collector.Hold()
	defer release()
	n := export(t, otlp.Config{Endpoint: settings.URL(collector.URL)})
	record := written(t)
	for n.dropped(t)["full"] == 0 {
		for range 1000 {
			n.Export(record)
		}
	}
	n.end() // in its time, though nobody answers
	require.Positive(t, n.dropped(t)["shutdown"])
	require.Empty(t, collector.Spans(""))
}

func TestACollectorThatIsAwayIsSaidOnce(t *testing.T) {
	t.Parallel()
	// Nobody may listen at that port but root.
	n := export(t, otlp.Config{Endpoint: "http://user:secret@127.0.0.1:1"})
	for count := 1.0; count <= 3; count++ {
		n.Export(written(t))
		require.Eventually(t, func() bool { return n.dropped(t)["refused"] >= count }, testserver.Patience, 20*time.Millisecond)
	}
	n.end()
	require.Equal(t, 1, strings.Count(n.said.String(), "spans cannot be exported"), n.said)
	require.Contains(t, n.said.String(), "connection refused")
	require.NotContains(t, n.said.String(), "secret")
}

func TestACollectorThatRefusesAndThenDoesNotIsSaidAtEachChange(t *testing.T) {
	t.Parallel()
	collector := testserver.NewCollector(t)
	collector.Refuses.Store(true)
	n := export(t, otlp.Config{Endpoint: settings.URL(collector.URL)})
	for count := 1.0; count <= 2; count++ {
		n.Export(written(t))
		require.Eventually(t, func() bool { return n.dropped(t)["refused"] >= count }, testserver.Patience, 20*time.Millisecond)
	}
	collector.Refuses.Store(false)
	n.Export(written(t))
	n.end()
	require.Len(t, collector.Spans(""), 1)
	require.Equal(t, 1, strings.Count(n.said.String(), "spans cannot be exported"), n.said)
	require.Equal(t, 1, strings.Count(n.said.String(), "spans are exported again"), n.said)
}

// What stands at the collector's address may answer with a page of megabytes.
func TestOfALongRefusalTheBeginningIsSaid(t *testing.T) {
	t.Parallel()
	const page = "no such tenant "
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, strings.Repeat(page, 1<<16), http.StatusBadRequest)
	}))
	t.Cleanup(server.Close)
	n := export(t, otlp.Config{Endpoint: settings.URL(server.URL)})
	n.Export(written(t))
	n.end()
	require.Equal(t, map[string]float64{"refused": 1}, n.dropped(t))
	require.Contains(t, n.said.String(), page)
	require.Less(t, len(n.said.String()), 2048)
}

func TestWithoutACollectorThereIsNoExporter(t *testing.T) {
	t.Parallel()
	for _, cfg := range []otlp.Config{
		{}, {Protocol: "grpc", ServiceName: "x", Sampler: "always_on"}, {Endpoint: "http://c:4318", SDKDisabled: true},
		{Endpoint: "http://c:4318", Exporter: "none"},
	} {
		n, err := otlp.New(cfg, "edge", "edge-1", 1000, slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry())
		require.NoError(t, err)
		require.Nil(t, n)
		require.Nil(t, n.Sampler())
		cfg.Validate(func(setting, problem string) { require.Fail(t, setting, problem) })
	}
}
