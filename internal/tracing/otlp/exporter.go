// Package otlp exports the hops of events as spans of OpenTelemetry, by OTLP over HTTP.
//
//	trace.Recorder ─Export─▶ span ─▶ queue ─Run─▶ collector
//
// What finds no room in the queue, and what the collector does not take, is counted and
// forgotten: no event waits for a span. Where no collector is named there is no
// Exporter, and nothing of this runs.
package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/neolith/daemon-gateway/internal/buildinfo"
	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/internal/outage"
	"github.com/neolith/daemon-gateway/internal/quote"
	"github.com/neolith/daemon-gateway/internal/tracing"
)

const (
	// queueRoom is how many spans wait to be exported, about a kilobyte each, and
	// batchSpans how many go at once.
	queueRoom, batchSpans = 4096, 512
	// interval is how long spans wait for others.
	interval = time.Second
	// exportTimeout is for one batch, tries included.
	exportTimeout = 10 * time.Second
	// lastExports is how long the end may take, for what is in the queue.
	lastExports = 2 * time.Second
	// maxReason is how much is told of why a collector takes nothing, which repeats the
	// whole page that it has answered with.
	maxReason = 512
)

// dropped is why a span was not exported.
type dropped string

const (
	droppedFull     dropped = "full"     // the queue was
	droppedRefused  dropped = "refused"  // by the collector, or it cannot be reached
	droppedShutdown dropped = "shutdown" // there was no time left
)

// Exporter exports the spans of a node. Its methods may be called at the same time,
// and none but Run ever waits.
type Exporter struct {
	sampler  *tracing.Sampler
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	client   sdk.SpanExporter
	address  string
	queue    chan sdk.ReadOnlySpan
	exported prometheus.Counter
	lost     metric.Counters[dropped]
	outage   *outage.Outage
	logger   *slog.Logger
}

// New returns the exporter of a node, or nil where none is asked for. service is the
// program's name, and one in every events is traced if cfg does not say otherwise.
func New(cfg Config, service, node string, every int, logger *slog.Logger, reg prometheus.Registerer) (*Exporter, error) {
	exported := metric.Counter(reg, "gateway_spans_exported_total", "Spans that the collector of OpenTelemetry has taken.")
	lost := metric.By(reg, "gateway_spans_dropped_total",
		"Spans not exported: the queue was full, the collector did not take them or could not be reached, or the program ended before.",
		"reason", droppedFull, droppedRefused, droppedShutdown)
	if !cfg.Enabled() {
		return nil, nil
	}
	e := &Exporter{
		address: cfg.address(), queue: make(chan sdk.ReadOnlySpan, queueRoom), exported: exported, lost: lost,
		logger: logger.With("component", "otlp"),
	}
	e.outage = outage.New("spans cannot be exported", e.logger)
	var err error
	if e.sampler, err = cfg.sampler(every); err != nil {
		return nil, fmt.Errorf("sampler of traces: %w", err)
	}
	if e.client, err = cfg.client(); err != nil {
		return nil, fmt.Errorf("exporter of traces: %w", err)
	}
	attributes, err := cfg.attributes(service, node)
	if err != nil {
		return nil, fmt.Errorf("attributes of traces: %w", err)
	}
	e.provider = sdk.NewTracerProvider(
		sdk.WithSampler(sdk.AlwaysSample()), // what comes here is chosen
		sdk.WithIDGenerator(givenIDs{}),
		sdk.WithResource(resource.NewSchemaless(attributes...)),
		sdk.WithSpanProcessor(queueing{e}),
	)
	e.tracer = e.provider.Tracer("github.com/neolith/daemon-gateway", trace.WithInstrumentationVersion(buildinfo.Get().Version))
	return e, nil
}

// Sampler says which events are traced. That of a nil exporter is nil.
func (e *Exporter) Sampler() *tracing.Sampler {
	if e == nil {
		return nil
	}
	return e.sampler
}

// client speaks with the collector. It is started, which connects to nothing.
func (c Config) client() (sdk.SpanExporter, error) {
	url, err := c.url()
	if err != nil {
		return nil, err
	}
	headers, err := c.headers()
	if err != nil {
		return nil, err
	}
	return otlptracehttp.New(context.Background(),
		otlptracehttp.WithEndpointURL(url), otlptracehttp.WithHeaders(headers),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: exportTimeout,
		}))
}

// attributes are what each span says of this program.
func (c Config) attributes(service, node string) ([]attribute.KeyValue, error) {
	list := []attribute.KeyValue{
		attribute.String("service.name", service), attribute.String("service.namespace", "daemon-gateway"),
		attribute.String("service.instance.id", node), attribute.String("service.version", buildinfo.Get().Version),
	}
	more, err := pairs(c.ResourceAttributes)
	if err != nil {
		return nil, err
	}
	for _, p := range more { // of those with the same key the last counts
		list = append(list, attribute.String(p.key, p.value))
	}
	if c.ServiceName != "" {
		list = append(list, attribute.String("service.name", c.ServiceName))
	}
	return list, nil
}

// queueing takes spans that have ended.
type queueing struct{ *Exporter }

func (queueing) OnStart(context.Context, sdk.ReadWriteSpan) {}

func (q queueing) OnEnd(s sdk.ReadOnlySpan) {
	select {
	case q.queue <- s:
	default:
		q.lost.Of(droppedFull).Inc()
	}
}

func (queueing) Shutdown(context.Context) error   { return nil }
func (queueing) ForceFlush(context.Context) error { return nil }

// Run exports what is in the queue until ctx ends, and then what is left, if that does
// not take long.
func (e *Exporter) Run(ctx context.Context) error {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastExports, cancel) })()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	batch := make([]sdk.ReadOnlySpan, 0, batchSpans)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case s := <-e.queue:
			batch = e.add(hard, batch, s)
		case <-ticker.C:
			batch = e.send(hard, batch)
		}
	}
	for len(e.queue) > 0 {
		batch = e.add(hard, batch, <-e.queue)
	}
	e.send(hard, batch)
	_ = e.provider.Shutdown(hard) // which holds nothing
	_ = e.client.Shutdown(hard)
	return nil
}

func (e *Exporter) add(ctx context.Context, batch []sdk.ReadOnlySpan, s sdk.ReadOnlySpan) []sdk.ReadOnlySpan {
	if batch = append(batch, s); len(batch) == cap(batch) {
		return e.send(ctx, batch)
	}
	return batch
}

// send exports a batch, whose room may be used again.
func (e *Exporter) send(ctx context.Context, batch []sdk.ReadOnlySpan) []sdk.ReadOnlySpan {
	if len(batch) == 0 {
		return batch
	}
	limited, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	n := float64(len(batch))
	switch err := e.client.ExportSpans(limited, batch); {
	case err == nil:
		e.exported.Add(n)
		if e.outage.Detail() != "" {
			e.logger.Info("spans are exported again", "address", e.address)
		}
		e.outage.Over()
	case ctx.Err() != nil:
		e.lost.Of(droppedShutdown).Add(n)
	default:
		e.lost.Of(droppedRefused).Add(n)
		e.outage.Failed(e.address, quote.CutAt(outage.Reason(err), maxReason), interval)
	}
	clear(batch)
	return batch[:0]
}
