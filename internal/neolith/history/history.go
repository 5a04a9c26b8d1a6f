// Package history records the sessions of an edge's daemons in PostgreSQL, for
// those who are asked why a daemon was not there: who was connected, from where,
// from when to when, why it ended, and how much went over it.
//
//	edge ── Record (begun, subscribed, ended) ──▶ queue ── COPY, every 5 s ──▶ daemon_gateway.sessions
//
// A session is written when it has begun and, as a whole, when it has ended; of
// both the queue keeps the newest. While PostgreSQL is away it holds a bounded
// number of sessions and forgets the oldest. No connection ever waits for it.
package history

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/latest"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// maxWaitingBytes is for some 80,000 sessions.
	maxWaitingBytes = 64 << 20
	// interval is how long sessions are gathered: most subscribe within it, and
	// each batch costs the database's catalogs a temporary table.
	interval = 5 * time.Second
	// maxBatch is how many sessions one transaction writes.
	maxBatch = 5_000
	// seenInterval is how exactly the end of a crashed edge is known.
	seenInterval = 15 * time.Second
	retryFirst   = time.Second
	retryMost    = 15 * time.Second
)

// Config is the settings of the history.
type Config struct {
	HistoryRetention time.Duration `help:"How long sessions are kept in the history, from when they began." default:"720h" min:"1h" group:"PostgreSQL"`
}

// Session is what is known of one WebSocket session. Times are zero for what has
// not happened.
type Session struct {
	ID            protocol.SessionID // a UUID
	Orchestrator  protocol.OrchestratorID
	Daemon        protocol.DaemonID
	RemoteAddress netip.Addr // invalid if it is not known
	Connected     time.Time
	Authenticated time.Time
	Subscribed    time.Time // first subscribe that has taken effect
	Ended         time.Time
	CloseCode     int // of the WebSocket; 0 while it is open
	CloseReason   string
	Sent          int64 // events, repeats included
	Acked         int64
	Redelivered   int64
}

// bytes is about what it holds.
func (s Session) bytes() int {
	return 300 + len(s.ID) + len(s.Orchestrator) + len(s.Daemon) + len(s.CloseReason)
}

// Recorder writes the sessions of one edge. Its methods may be called at any
// time, Run once.
type Recorder struct {
	store    *store
	migrated <-chan struct{}
	metrics  *metrics
	logger   *slog.Logger
	faults   rate.Sometimes
	waiting  *latest.Queue[protocol.SessionID, Session]

	// turn is held by whoever writes. What follows belongs to the holder.
	turn     chan struct{}
	prepared bool // what an earlier process of this node left open is ended
	failures int
	retryAt  time.Time
	seenAt   time.Time
}

// New returns a recorder for the edge of this name; Run makes it work.
func New(cfg Config, db *postgres.DB, edge string, logger *slog.Logger, reg prometheus.Registerer) *Recorder {
	r := &Recorder{
		store: &store{pool: db.Pool, edge: edge, started: time.Now(), retention: cfg.HistoryRetention}, migrated: db.Migrated(),
		logger:  logger.With("component", "history"),
		faults:  rate.Sometimes{First: 1, Interval: time.Minute},
		waiting: latest.New[protocol.SessionID, Session](maxWaitingBytes),
		turn:    make(chan struct{}, 1),
	}
	r.metrics = newMetrics(reg, r.waiting.Len)
	return r
}

// Record notes how a session stands. It never blocks, and replaces what is
// known of the session.
func (r *Recorder) Record(s Session) {
	r.metrics.dropped.Add(float64(r.waiting.Put(s.ID, s, s.bytes())))
}

// Run writes until ctx ends, and deletes what is older than the retention. What
// waits then is left for Flush.
func (r *Recorder) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.migrated:
	}
	var cleaning sync.WaitGroup
	cleaning.Go(func() { r.clean(ctx) })
	defer cleaning.Wait()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := r.work(ctx, false); err != nil && ctx.Err() == nil {
			r.complain("sessions are not recorded", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Flush writes what waits now, or returns why it could not.
func (r *Recorder) Flush(ctx context.Context) error { return r.work(ctx, true) }

// work writes what is due. Unless told otherwise it leaves PostgreSQL in peace
// for a while after it has failed.
func (r *Recorder) work(ctx context.Context, atOnce bool) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !atOnce && time.Now().Before(r.retryAt) {
		return nil
	}
	if err := r.write(ctx); err != nil {
		r.metrics.errors.Inc()
		r.retryAt = time.Now().Add(min(retryFirst<<min(r.failures, 8), retryMost))
		r.failures++
		return err
	}
	r.failures = 0
	return nil
}

// write ends first what an earlier process of this node left open: later it
// could not be told from what this one has open.
func (r *Recorder) write(ctx context.Context) error {
	if !r.prepared {
		crashed, err := r.store.endCrashed(ctx)
		if err != nil {
			return err
		}
		if crashed > 0 {
			r.logger.Info("ended the sessions that this node left open when it crashed", "sessions", crashed)
		}
		r.prepared = true
	}
	if now := time.Now(); now.Sub(r.seenAt) >= seenInterval {
		if err := r.store.seen(ctx, now); err != nil {
			return err
		}
		r.seenAt = now
	}
	for {
		batch := r.waiting.Oldest(maxBatch)
		if len(batch) == 0 {
			return nil
		}
		began := time.Now()
		if err := r.store.write(ctx, batch); err != nil {
			return err
		}
		r.metrics.seconds.Observe(time.Since(began).Seconds())
		r.metrics.written.Add(float64(len(batch)))
		for _, e := range batch {
			r.waiting.Remove(e)
		}
	}
}

func (r *Recorder) complain(what string, err error) {
	r.faults.Do(func() { r.logger.Warn(what, "error", err) })
}
