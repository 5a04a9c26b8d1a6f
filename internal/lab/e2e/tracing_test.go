package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// publisherSpan is the span in which every traced event of these tests is published.
const publisherSpan = "00f067aa0ba902b7"

// publishTraced publishes an event in a trace of its own, and returns that.
func (w *world) publishTraced(orchestrator protocol.OrchestratorID, id string, way traffic.Way) (trace string) {
	w.t.Helper()
	trace = tracing.IDOf(w.t.Name() + id).String()
	require.NoError(w.t, w.Feed.Publish(w.ctx, way, event.Event{
		ID: id, Type: "message.received", OrchestratorID: orchestrator, Payload: []byte(`{}`), RequiresAck: true,
		Trace: &event.TraceContext{Traceparent: "00-" + trace + "-" + publisherSpan + "-01", Tracestate: "vendor=1"},
	}))
	return trace
}

// named returns the first span of that name.
func named(spans []testserver.Span, name string) (s testserver.Span, ok bool) {
	i := slices.IndexFunc(spans, func(s testserver.Span) bool { return s.Name == name })
	if i < 0 {
		return s, false
	}
	return spans[i], true
}

// chain returns the spans of a trace from the publisher's on, each the child of the one
// before.
func chain(spans []testserver.Span, parent string) (list []testserver.Span) {
	for {
		i := slices.IndexFunc(spans, func(s testserver.Span) bool { return s.Parent == parent })
		if i < 0 {
			return list
		}
		list = append(list, spans[i])
		parent = spans[i].ID
	}
}

// whole reports whether each span follows the publisher's or another one. Where a
// partition moves, two routers may forward an event, and the one that the edge took it
// from may export later.
func whole(spans []testserver.Span, publisher string) bool {
	return !slices.ContainsFunc(spans, func(s testserver.Span) bool {
		return s.Parent != publisher && !slices.ContainsFunc(spans, func(before testserver.Span) bool { return before.ID == s.Parent })
	})
}

func names(spans []testserver.Span) (list []string) {
	for _, s := range spans {
		list = append(list, s.Name)
	}
	return list
}

// The whole way of an event is one trace, that of its publisher. An edge may have read
// an event from the log before a router has brought it, which then follows the bridge's
// span: so events are published until one has gone the usual way.
func TestAnEventIsOneTraceFromItsPublisherToItsDaemon(t *testing.T) {
	t.Parallel()
	collector := testserver.NewCollector(t)
	w := startWorld(t, with(map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
		"TRACE_SAMPLE": "1000000000",
	}))
	seat := w.Crowd.Add("vp 7.*/ü", traffic.Habit{}, protocol.Subscribe{EventTypes: []protocol.Pattern{protocol.AllEvents}})
	w.enter(seat)
	orchestrator := seat.Profile.Orchestrator
	for way, usual := range map[traffic.Way][]string{
		traffic.OnRedis: {"stored", "forwarded", "written", "acknowledged"},
		traffic.IntoLog: {"forwarded", "written", "acknowledged"},
	} {
		var spans []testserver.Span
		for n := 0; !slices.Equal(names(spans), usual); n++ {
			trace := w.publishTraced(orchestrator, fmt.Sprintf("e-%v-%d", way, n), way)
			w.eventually(func() bool {
				spans = collector.Spans(trace)
				_, done := named(spans, "acknowledged")
				_, forwarded := named(spans, "forwarded")
				_, stored := named(spans, "stored")
				return done && forwarded && (stored || way != traffic.OnRedis) && whole(spans, publisherSpan)
			}, "the spans of %s arrive: %v", trace, &spans)
			for _, s := range spans {
				require.Equal(t, "vendor=1", s.State)
				require.False(t, s.Failed)
			}
			spans = chain(spans, publisherSpan)
		}
		for _, s := range spans {
			require.False(t, s.Ended.Before(s.Began), s)
			require.Equal(t, string(event.TokenOf(orchestrator)), s.Attributes["gateway.orchestrator"])
			require.Equal(t, s.Name, s.Attributes["gateway.outcome"])
			require.Contains(t, s.Attributes["gateway.event"], "e-")
			require.NotEmpty(t, s.Attributes["gateway.partition"])
			require.Equal(t, s.Resource["service.instance.id"], s.Attributes["gateway.node"])
			require.Equal(t, "daemon-gateway", s.Resource["service.namespace"])
			require.Equal(t, "test", s.Resource["deployment.environment.name"])
		}
		tiers := map[string]string{"stored": "publisher-bridge", "forwarded": "router", "written": "edge", "acknowledged": "edge"}
		for _, s := range spans {
			require.Equal(t, tiers[s.Name], s.Resource["service.name"])
		}
	}
	w.requireExemplars()
	// What its publisher has not sampled is nobody else's to trace, and it arrives.
	before := len(collector.Spans(""))
	require.NoError(t, w.Feed.Publish(w.ctx, traffic.OnRedis, event.Event{
		ID: "unsampled", Type: "message.received", OrchestratorID: orchestrator, Payload: []byte(`{}`), RequiresAck: true,
		Trace: &event.TraceContext{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-" + publisherSpan + "-00"},
	}))
	trace := w.publishTraced(orchestrator, "after", traffic.OnRedis)
	w.eventually(func() bool {
		_, done := named(collector.Spans(trace), "acknowledged")
		return done
	}, "what comes behind is acknowledged")
	require.Greater(t, len(collector.Spans("")), before)
	require.Empty(t, collector.Spans("4bf92f3577b34da6a3ce929d0e0e4736"))
}

// requireExemplars looks for events that stand as examples in the histograms, of who
// asks for the format that has them.
func (w *world) requireExemplars() {
	w.t.Helper()
	w.eventually(func() bool {
		found := map[string]bool{}
		for _, n := range w.Nodes() {
			for line := range strings.Lines(w.metricsOf(n.AdminAddr, "application/openmetrics-text")) {
				if family, _, ok := strings.Cut(line, "_bucket{"); ok && strings.Contains(line, `# {trace_id="`) {
					found[family] = true
				}
			}
			require.NotContains(w.t, w.metricsOf(n.AdminAddr, "text/plain"), "trace_id")
		}
		return found["gateway_edge_delivery_seconds"] && found["ws_event_latency_seconds"] &&
			found["gateway_router_latency_seconds"] && found["gateway_log_request_duration_seconds"]
	}, "the histograms of latency have exemplars")
}

func (w *world) metricsOf(address, format string) string {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	require.NoError(w.t, err)
	request.Header.Set("Accept", format)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, answer.Body.Close()) }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(w.t, err)
	return string(text)
}

// A collector that nobody can reach costs its spans and nothing else.
func TestEventsAreDeliveredWhileTheCollectorIsAway(t *testing.T) {
	t.Parallel()
	w := startWorld(t, with(map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER": "always_on",
	}))
	seat := w.Crowd.Add("vp", traffic.Habit{}, protocol.Subscribe{EventTypes: []protocol.Pattern{protocol.AllEvents}})
	w.enter(seat)
	const events = 50
	for n := range events {
		w.publishTraced("vp", fmt.Sprint("e", n), []traffic.Way{traffic.OnRedis, traffic.IntoLog}[n%2])
	}
	w.eventually(func() bool {
		acked, err := cluster.Sum(w.ctx, w.Edges, "gateway_edge_events_total", `outcome="acked"`)
		require.NoError(t, err)
		return acked >= events
	}, "all events are acknowledged")
	// Which router has the partition, and which bridge was first, is not known.
	for _, tier := range [][]*cluster.Node{w.Bridges, w.Routers} {
		w.eventually(func() bool {
			dropped, err := cluster.Sum(w.ctx, tier, "gateway_spans_dropped_total", `reason="refused"`)
			require.NoError(t, err)
			exported, err := cluster.Sum(w.ctx, tier, "gateway_spans_exported_total")
			require.NoError(t, err)
			require.Zero(t, exported)
			return dropped > 0
		}, "%s and its like have counted spans that nobody takes", tier[0].Name())
	}
}
