package router

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/router/lane"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/internal/tracing"
)

type exported struct{ records []trace.Record }

func (e *exported) Export(r trace.Record) { e.records = append(e.records, r) }

// traces is a run that notes nothing but what has a trace.
func traces(t *testing.T) (*run, *exported) {
	t.Helper()
	recorder := trace.New(trace.Config{TraceSample: 1 << 29}, "router", "router-1", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	sampler, err := tracing.NewSampler("parentbased_always_off", 0)
	require.NoError(t, err)
	to := &exported{}
	recorder.Export(to, sampler)
	return &run{routing: &routing{trace: recorder}, partition: 3}, to
}

// A batch is kept for its repeat, which makes spans of its own.
func TestABatchNamesTheRoutersSpansAndTheLaneKeepsItsEvents(t *testing.T) {
	t.Parallel()
	r, to := traces(t)
	c := &tracing.Context{TraceID: tracing.TraceID{1}, Parent: tracing.SpanID{2}, State: "a=b", Sampled: true}
	body := []byte(`{"id":"e","type":"a.b","orchestratorId":"o","payload":{}}`)
	now := time.Unix(1000, 0)
	kept := []delivery.Forwarded{
		{Message: eventlog.Message{Token: "o", Sequence: 1, Stored: now, Body: body}},
		{Message: eventlog.Message{Token: "o", Sequence: 2, Stored: now, Body: body, Trace: c}},
	}
	var spans []tracing.SpanID
	for n := range 2 {
		send := lane.Send{Edge: "edge-1", Batch: delivery.Batch{Events: kept}}
		r.traceForwarded(&send, now.Add(time.Second))
		require.Nil(t, kept[0].Trace)
		require.Equal(t, c, kept[1].Trace)
		require.Len(t, to.records, n+1)
		span := to.records[n].Span
		require.Equal(t, c, span.Context)
		require.True(t, now.Equal(span.Began))
		require.Nil(t, send.Batch.Events[0].Trace)
		require.Equal(t, c.After(span.ID), send.Batch.Events[1].Trace)
		spans = append(spans, span.ID)
	}
	require.NotEqual(t, spans[0], spans[1])
}

func TestABatchWithoutTracesIsNotCopied(t *testing.T) {
	r, to := traces(t)
	kept := []delivery.Forwarded{{Message: eventlog.Message{Token: "o", Sequence: 1, Body: []byte(`{}`)}}}
	send := lane.Send{Edge: "edge-1", Batch: delivery.Batch{Events: kept}}
	require.Zero(t, testing.AllocsPerRun(100, func() { r.traceForwarded(&send, time.Unix(1000, 0)) }))
	require.Same(t, &kept[0], &send.Batch.Events[0])
	require.Empty(t, to.records)
}
