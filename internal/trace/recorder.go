package trace

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/internal/outage"
	"github.com/neolith/daemon-gateway/internal/tracing"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// recordRoom is how many records wait to be stored, about a kilobyte each.
	recordRoom = 4096
	// storesAtOnce are under way.
	storesAtOnce = 64
	// waitedRate bounds what is kept of events that have waited: thousands do at
	// once where daemons come back, and must not take the place of what has failed.
	waitedRate, waitedBurst = 50, 500
	// firstPause is for how long nothing is stored after a failure; it doubles up to
	// longestPause.
	firstPause, longestPause = time.Second, time.Minute
	// lastStores is how long the end may take, for what is in the buffer.
	lastStores = time.Second
)

// Store is where records are kept.
type Store interface {
	// KeepTrace stores what is said of an event. done is called exactly once, from
	// another goroutine.
	KeepTrace(ctx context.Context, orchestrator event.Token, eventID string, record []byte, done func(error))
}

// Exporter takes records that have a Span, and never waits.
type Exporter interface{ Export(record Record) }

// dropped is why a record was not stored.
type dropped string

const (
	droppedFull        dropped = "full"        // the buffer was
	droppedRate        dropped = "rate"        // too many events have waited
	droppedUnavailable dropped = "unavailable" // the stream
)

// Recorder takes what a node says of events. A nil one takes nothing. All methods
// may be called at the same time, and none but Run ever waits.
type Recorder struct {
	tier, node string
	every      uint64 // of so many events one; 0: none
	records    chan Record
	waited     *rate.Limiter
	stored     metric.Counters[string]
	lost       metric.Counters[dropped]
	outage     *outage.Outage
	exporter   Exporter // nil: none
	sampler    *tracing.Sampler

	mu      sync.Mutex                               // guards the changes of watched
	watched atomic.Pointer[map[event.Token][]*watch] // nil while nobody watches
	live    chan news

	// Owned by Run.
	storing int
	resume  time.Time // nothing is stored before
	pause   time.Duration
	stores  chan error
}

// New returns the recorder of a node.
func New(cfg Config, tier, node string, logger *slog.Logger, reg prometheus.Registerer) *Recorder {
	return &Recorder{
		tier: tier, node: node, every: uint64(max(0, cfg.TraceSample)),
		records: make(chan Record, recordRoom), waited: rate.NewLimiter(waitedRate, waitedBurst),
		outage: outage.New("hops of events cannot be stored", logger.With("component", "trace")),
		live:   make(chan news, newsRoom), stores: make(chan error, storesAtOnce),
		stored: metric.By(reg, "gateway_trace_records_total", "Records of events' hops stored, by why the event is traced.",
			"cause", causes[Sampled:]...),
		lost: metric.By(reg, "gateway_trace_dropped_total",
			"Records of events' hops not stored: the buffer was full, too many events had waited, or the stream did not take them.",
			"reason", droppedFull, droppedRate, droppedUnavailable),
	}
}

// Export has records with a Span exported as well, of the events that the sampler
// chooses and of those with which something is the matter. It is called before
// anything else.
func (r *Recorder) Export(to Exporter, sampler *tracing.Sampler) { r.exporter, r.sampler = to, sampler }

// On reports whether anything may be traced now.
func (r *Recorder) On() bool {
	return r != nil && (r.every != 0 || r.exporter != nil || r.watched.Load() != nil)
}

// Node is the one that records.
func (r *Recorder) Node() string { return r.node }

// Choose says whether an event is traced though nothing is the matter with it: by
// where it stands, so that all nodes choose the same, or because it has a trace.
func (r *Recorder) Choose(orchestrator event.Token, p event.Partition, sequence uint64, c *tracing.Context) Cause {
	switch {
	case r == nil:
		return None
	case c != nil && c.Sampled && r.exporter != nil:
		return Sampled
	}
	if r.every != 0 && sample(uint64(p), sequence)%r.every == 0 {
		return Sampled
	}
	return r.Because(orchestrator, None)
}

// Because says whether an event is traced with which something is the matter.
func (r *Recorder) Because(orchestrator event.Token, cause Cause) Cause {
	switch {
	case r == nil:
		return None
	case (r.every != 0 || r.exporter != nil) && cause != None:
		return cause
	case r.watchedBy(orchestrator) != nil:
		return Watched
	}
	return None
}

// Late returns the context of an event of which something is said because of cause, and
// that nobody has chosen before; nil: it is not exported.
func (r *Recorder) Late(orchestrator event.Token, eventID string, cause Cause) *tracing.Context {
	if r == nil || r.exporter == nil || cause <= Sampled {
		return nil
	}
	return r.sampler.Late(orchestrator, eventID)
}

// sample spreads positions evenly (splitmix64).
func sample(partition, sequence uint64) uint64 {
	z := (partition<<48 ^ sequence) * 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// Add takes a record, whose hops belong to the recorder from then on. It returns
// false where there was no room.
func (r *Recorder) Add(record Record) bool {
	if r == nil || record.Cause == None || record.Orchestrator.Reserved() || !addressable(record) {
		return true
	}
	for i := range record.Hops {
		h := &record.Hops[i]
		if h.Tier == "" {
			h.Tier, h.Node = r.tier, r.node
		}
		if len(h.Detail) > maxDetail {
			h.Detail = strings.ToValidUTF8(h.Detail[:maxDetail], "")
		}
	}
	if record.Span != nil {
		record.TraceID = record.Span.Context.ID()
	}
	r.tell(record)
	switch {
	case record.Cause == Watched || record.Event == "":
		return true
	case record.Cause == Waited && (record.Span == nil || record.Span.Late) && !r.waited.Allow():
		r.lost.Of(droppedRate).Inc()
		return true
	}
	if record.Span != nil && r.exporter != nil {
		r.exporter.Export(record)
	}
	if r.every == 0 {
		return true
	}
	select {
	case r.records <- record:
		return true
	default:
		r.lost.Of(droppedFull).Inc()
		return false
	}
}

// maxDetail bounds what may repeat a part of an event.
const maxDetail = 256

// addressable reports whether the ids can stand in a subject: of an event that is
// refused they may be of any length.
func addressable(record Record) bool {
	return record.Orchestrator != "" && len(record.Orchestrator) <= 3*protocol.MaxIDBytes && len(record.Event) <= protocol.MaxIDBytes
}

// Run stores what is added and tells those who watch, until ctx ends, and then
// stores what is left, if that does not take long.
func (r *Recorder) Run(ctx context.Context, store Store) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	ended, end := ctx.Done(), (<-chan time.Time)(nil)
	ctx = context.WithoutCancel(ctx)
	for end == nil || r.storing > 0 || len(r.records) > 0 {
		select {
		case <-ended:
			ended, end = nil, time.After(lastStores)
		case <-end:
			r.lost.Of(droppedUnavailable).Add(float64(len(r.records)))
			return nil
		case record := <-r.ready(time.Now()):
			r.store(ctx, store, record)
		case err := <-r.stores:
			r.hasStored(err, time.Now())
		case n := <-r.live:
			n.watch.emit(n.record)
		case now := <-ticker.C:
			r.expire(now)
		}
	}
	return nil
}

// ready is where records come from while more may be stored.
func (r *Recorder) ready(now time.Time) <-chan Record {
	if r.storing >= storesAtOnce || now.Before(r.resume) {
		return nil
	}
	return r.records
}

func (r *Recorder) store(ctx context.Context, store Store, record Record) {
	text, err := json.Marshal(record)
	if err != nil { // which it never does of these
		r.lost.Of(droppedUnavailable).Inc()
		return
	}
	r.storing++
	cause := r.stored.Of(record.Cause.String())
	store.KeepTrace(ctx, record.Orchestrator, record.Event, text, func(err error) {
		if err == nil {
			cause.Inc()
		}
		r.stores <- err
	})
}

// hasStored pauses after a failure: what is lost meanwhile are records alone.
func (r *Recorder) hasStored(err error, now time.Time) {
	r.storing--
	if err == nil {
		r.pause = 0
		r.outage.Over()
		return
	}
	r.lost.Of(droppedUnavailable).Inc()
	if now.Before(r.resume) { // one of those that were under way
		return
	}
	r.pause = min(max(2*r.pause, firstPause), longestPause)
	r.resume = now.Add(r.pause)
	r.outage.Failed("the stream", err.Error(), r.pause)
}
