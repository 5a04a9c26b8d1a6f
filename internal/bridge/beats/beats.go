// Package beats writes to Redis what daemons report of themselves, where
// Neolith's health page reads it: a bridge's part of the way of a heartbeat.
//
//	edges ── daemon.heartbeats.<partition> ──▶ one of the bridges ── pipeline ──▶ Redis
//
//	daemon:heartbeat:<orchestrator>     the newest heartbeat, for 90 s
//	daemon:metrics:<orchestrator>       the last 100 metrics, newest first, for 24 h
//	daemon:heartbeats:<organization>    a notice of each, published
//	daemon:session:<daemon>             its lastHeartbeat, where Neolith has such a session
//	routing:session:<orchestrator>      that it is connected, also before its first heartbeat
//	presence:vp:<orchestrator>          the same for Neolith's presence service,
//	presence:heartbeat:vp:<…>           for as long as this lives
//
// What Redis does not take waits: the newest heartbeat of each session, within a
// bound, as long as it says anything. Nothing else of the bridge waits for that.
package beats

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/latest"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// queueGroup is of all bridges: one of them gets each batch.
	queueGroup = "bridges"
	// maxWaitingBytes is for some 100,000 heartbeats.
	maxWaitingBytes = 64 << 20
	// interval is how long heartbeats are gathered.
	interval = 250 * time.Millisecond
	// maxBatch is how many heartbeats one pipeline writes.
	maxBatch     = 500
	batchTimeout = 5 * time.Second
	lastWrite    = 2 * time.Second
	retryFirst   = 500 * time.Millisecond
	retryMost    = 5 * time.Second
)

type entry = latest.Entry[protocol.SessionID, *beat]

// Writer writes the heartbeats that come to this bridge. Run is called once;
// Check may be called at any time.
type Writer struct {
	conn    *nats.Conn
	redis   redis.UniversalClient
	metrics *metrics
	logger  *slog.Logger
	faults  rate.Sometimes
	waiting *latest.Queue[protocol.SessionID, *beat]
	problem atomic.Pointer[string] // why the last attempt failed; nil if it did not

	batchTimeout time.Duration // for one pipeline
	lastWrite    time.Duration // for what is done at the end

	// Owned by Run.
	failures int // in a row
	retryAt  time.Time
}

// New returns a writer that begins with Run.
func New(conn *nats.Conn, client redis.UniversalClient, logger *slog.Logger, reg prometheus.Registerer) *Writer {
	w := &Writer{
		conn: conn, redis: client, logger: logger.With("component", "health"),
		faults:  rate.Sometimes{First: 1, Interval: time.Minute},
		waiting: latest.New[protocol.SessionID, *beat](maxWaitingBytes),

		batchTimeout: batchTimeout, lastWrite: lastWrite,
	}
	w.metrics = newMetrics(reg, w.waiting.Len)
	return w
}

// Check tells /readyz whether heartbeats are being written.
func (w *Writer) Check() (ok bool, detail string) {
	waiting := w.waiting.Len()
	if problem := w.problem.Load(); problem != nil {
		return false, fmt.Sprintf("%d heartbeats wait: %s", waiting, *problem)
	}
	return true, fmt.Sprintf("%d heartbeats wait", waiting)
}

// Run hears and writes until ctx ends, and then what it still has.
func (w *Writer) Run(ctx context.Context) error {
	sub, err := w.conn.QueueSubscribe(heartbeat.AllSubjects, queueGroup, w.hear)
	if err != nil {
		return fmt.Errorf("subscribe to heartbeats: %w", err)
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = sub.Unsubscribe() // the connection may be gone
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.lastWrite)
			defer cancel()
			w.writeAll(last)
			return nil
		case now := <-ticker.C:
			if !now.Before(w.retryAt) {
				w.writeAll(ctx)
			}
		}
	}
}

// hear takes a batch in. It is called by the NATS client, one at a time.
func (w *Writer) hear(m *nats.Msg) {
	beats, err := heartbeat.Decode(m.Data)
	if err != nil {
		w.metrics.count(malformed, 1)
		w.complain("heartbeats that nobody can read", err)
	}
	// The newest of an orchestrator is to be written last.
	slices.SortFunc(beats, func(a, b heartbeat.Beat) int { return a.ReceivedAt.Compare(b.ReceivedAt) })
	now := time.Now()
	for _, h := range beats {
		if !h.Orchestrator.Reserved() {
			w.add(h, now)
		}
	}
}

func (w *Writer) add(h heartbeat.Beat, now time.Time) {
	b, err := newBeat(h, now)
	if err != nil {
		w.metrics.count(malformed, 1)
		w.complain("a heartbeat that nobody can write", err)
		return
	}
	w.metrics.count(overflow, w.waiting.Put(h.Session, b, b.bytes()))
}

// writeAll tries once to write all that waits. Where a part of a Cluster is away,
// what is for the others goes on; where nothing goes, it ends at once.
func (w *Writer) writeAll(ctx context.Context) {
	now := time.Now()
	w.metrics.count(stale, w.waiting.RemoveIf(func(b *beat) bool { return b.stale(now) }))
	var failure error
	for left := w.waiting.Len(); left > 0; left -= maxBatch {
		settled, err := w.writeBatch(ctx, w.waiting.Oldest(min(left, maxBatch)))
		if err != nil {
			failure = err
			if settled == 0 {
				break
			}
		}
	}
	if failure != nil {
		w.failed(failure)
		return
	}
	w.problem.Store(nil)
	w.failures = 0
}

func (w *Writer) failed(err error) {
	w.metrics.errors.Inc()
	problem := err.Error()
	w.problem.Store(&problem)
	w.retryAt = time.Now().Add(min(retryFirst<<min(w.failures, 8), retryMost))
	w.failures++
	w.complain("heartbeats are not written to Redis", err)
}

func (w *Writer) complain(what string, err error) {
	w.faults.Do(func() { w.logger.Warn(what, "error", err) })
}
