// Package presence writes to Neolith's database which orchestrators are
// connected, and what they say they are doing: vps.status and vps.updated_at.
//
// The router that serves a partition writes the presence of its orchestrators.
// It knows who is connected from the directory, over the whole cluster, and what
// daemons say from their heartbeats:
//
//	claims (gossip) ──┐
//	heartbeats (NATS) ┼─▶ tracker ── changes, a batch each second ──▶ vps.status
//	time of grace ────┘      ▲                                    └─▶ daemon_gateway.presence
//	                         └── who was shown as connected ───────────────┘ (a new writer's start)
//
// What somebody else has written meanwhile of an orchestrator that is connected
// is overwritten, within a heartbeat's interval.
//
// OFFLINE means to Neolith that an orchestrator is disabled: its daemons cannot log
// in. So it is written only where that is asked for, and one that the gateway has
// not written itself stays.
//
// There is one writer at a time: each takes a term, the database accepts only
// writes of the last one. A new writer compares what was written with who is
// connected, and writes only where they differ. While PostgreSQL is away the
// newest status of each connected orchestrator is kept, and nothing more.
package presence

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// interval is how long changes are gathered.
	interval = time.Second
	// maxBatch is how many changes one statement writes.
	maxBatch = 5_000
	// maxLeaving bounds the orchestrators of a partition that are remembered
	// because they have gone and that could not be written: about 10 MB.
	maxLeaving = 100_000
	retryFirst = time.Second
	retryMost  = 15 * time.Second
	lastWrite  = 2 * time.Second
	// retake is how long a partition is left to another writer that nobody knew
	// of: longer than two routers may differ about whose it is.
	retake = 30 * time.Second
)

// Config is the settings of presence.
type Config struct {
	PresenceGrace    time.Duration `help:"How long an orchestrator may be without any connection before it counts as gone: long enough to reconnect after an edge has stopped." default:"15s" min:"0s" group:"PostgreSQL"`
	PresenceWhenGone WhenGone      `help:"Which status an orchestrator that is gone is shown with: AWAY, OFFLINE, or keep the last one. To Neolith OFFLINE means disabled, and it refuses the next login; an OFFLINE that the gateway has not written is never overwritten." default:"AWAY" enum:"AWAY,OFFLINE,keep" group:"PostgreSQL"`
}

// WhenGone is what is shown of an orchestrator that is gone.
type WhenGone string

// The values of PRESENCE_WHEN_GONE.
const (
	WhenGoneAway    WhenGone = "AWAY"
	WhenGoneOffline WhenGone = "OFFLINE"
	WhenGoneKeep    WhenGone = "keep"
)

// directory is what presence needs of the ring.
type directory interface {
	Holdings(token event.Token) []ring.Holding
	EachOrchestrator(yield func(event.Token))
	Settled() bool
}

// Writer writes the presence of the partitions that are its own. It is a
// ring.Watcher; the methods may be called at any time, Run once.
type Writer struct {
	conn       *nats.Conn
	directory  directory
	partitions int
	store      *store
	migrated   <-chan struct{}
	metrics    *metrics
	logger     *slog.Logger
	faults     rate.Sometimes

	// Owned by Run.
	subscriptions map[event.Partition]*nats.Subscription
	failures      int
	retryAt       time.Time
	comparedAt    time.Time

	mu      sync.Mutex
	tracker *tracker // guarded by mu
	pace    pace     // guarded by mu
}

// New returns a writer for a router; Run makes it work. node names it in the
// database, partitions is the number of all.
func New(cfg Config, db *postgres.DB, conn *nats.Conn, d directory, partitions int, node string, logger *slog.Logger, reg prometheus.Registerer) *Writer {
	return &Writer{
		conn: conn, directory: d, partitions: partitions, store: newStore(db, node, cfg.PresenceWhenGone), migrated: db.Migrated(),
		metrics: newMetrics(reg), logger: logger.With("component", "presence"),
		faults:        rate.Sometimes{First: 1, Interval: time.Minute},
		subscriptions: make(map[event.Partition]*nats.Subscription),
		tracker:       newTracker(cfg.PresenceGrace, maxLeaving),
		pace:          pace{least: compareLeast, most: compareMost},
	}
}

// ClaimsAdded implements ring.Watcher.
func (w *Writer) ClaimsAdded(claims []ring.Holding) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range claims {
		if !h.Orchestrator.Reserved() {
			w.tracker.connect(w.partitionOf(h.Orchestrator), h.Orchestrator)
		}
	}
}

// ClaimsRemoved implements ring.Watcher. A removal may be told late: whether
// anything is left, only the directory knows.
func (w *Writer) ClaimsRemoved(claims []ring.Holding) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range claims {
		if len(w.directory.Holdings(h.Orchestrator)) == 0 {
			w.tracker.disconnect(w.partitionOf(h.Orchestrator), h.Orchestrator, now)
		}
	}
}

// MembersChanged implements ring.Watcher.
func (w *Writer) MembersChanged() {}

func (w *Writer) partitionOf(o event.Token) event.Partition {
	return event.PartitionOf(o, w.partitions)
}

// Run writes until ctx ends. owned returns the partitions that this router is
// to serve; it is asked each second.
func (w *Writer) Run(ctx context.Context, owned func() []event.Partition) {
	defer w.unsubscribe()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			// What daemons have said is known here alone.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
			defer cancel()
			w.round(last, time.Now())
			return
		case now := <-ticker.C:
			w.place(owned())
			w.round(ctx, now)
		}
	}
}

// place begins and ends partitions.
func (w *Writer) place(owned []event.Partition) {
	now := make(map[event.Partition]bool, len(owned))
	var begun []event.Partition
	for _, p := range owned {
		now[p] = true
		if w.subscriptions[p] != nil {
			continue
		}
		sub, err := w.conn.Subscribe(heartbeat.Subject(p), w.hear)
		if err != nil {
			w.complain("heartbeats cannot be heard", err)
			continue // the next round tries again
		}
		w.subscriptions[p] = sub
		begun = append(begun, p)
	}
	w.begin(begun)
	for p, sub := range w.subscriptions {
		if !now[p] {
			_ = sub.Unsubscribe() // the connection may be gone
			delete(w.subscriptions, p)
			w.end(p)
		}
	}
	w.metrics.owned.Set(float64(len(w.subscriptions)))
}

// begin takes partitions in. What changes in the directory after it is listed
// here is told afterwards, since the watcher waits for the lock.
func (w *Writer) begin(partitions []event.Partition) {
	if len(partitions) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	connected := make(map[event.Partition][]event.Token)
	w.directory.EachOrchestrator(func(o event.Token) {
		if !o.Reserved() {
			p := w.partitionOf(o)
			connected[p] = append(connected[p], o)
		}
	})
	for _, p := range partitions {
		w.tracker.begin(p, connected[p])
	}
}

func (w *Writer) end(p event.Partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tracker.end(p)
}

func (w *Writer) unsubscribe() {
	for _, sub := range w.subscriptions {
		_ = sub.Unsubscribe() // the connection may be gone
	}
}

// hear takes a batch of heartbeats in.
func (w *Writer) hear(m *nats.Msg) {
	beats, err := heartbeat.Decode(m.Data)
	if err != nil {
		w.complain("heartbeats that nobody can read", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pace.told(heartbeat.IntervalOf(m), time.Now())
	for _, b := range beats {
		o := event.TokenOf(b.Orchestrator)
		w.tracker.beat(w.partitionOf(o), o, b.Status)
	}
}

// round loads and writes what is due, unless PostgreSQL has just failed.
func (w *Writer) round(ctx context.Context, now time.Time) {
	w.mu.Lock()
	w.tracker.tick(now)
	waiting := w.tracker.waiting()
	w.mu.Unlock()
	w.metrics.waiting.Set(float64(waiting))
	select {
	case <-w.migrated:
	default:
		return
	}
	if now.Before(w.retryAt) {
		return
	}
	err := w.load(ctx)
	if err == nil {
		err = w.compare(ctx, now)
	}
	if err == nil {
		err = w.write(ctx)
	}
	if err == nil {
		w.failures = 0
		return
	}
	w.metrics.errors.Inc()
	w.retryAt = time.Now().Add(min(retryFirst<<min(w.failures, 8), retryMost))
	w.failures++
	w.complain("presence is not up to date", err)
}

// load reads what has been written of partitions that are new here. A directory
// that does not know all edges yet would show orchestrators as gone.
func (w *Writer) load(ctx context.Context) error {
	if !w.directory.Settled() {
		return nil
	}
	w.mu.Lock()
	wanting := w.tracker.wanting(time.Now())
	w.mu.Unlock()
	for _, p := range wanting {
		term, shown, err := w.store.load(ctx, p)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.tracker.load(p, term, shown, time.Now())
		w.mu.Unlock()
	}
	return nil
}

// compare has those statuses written again that somebody else has changed.
func (w *Writer) compare(ctx context.Context, now time.Time) error {
	w.mu.Lock()
	loaded := w.tracker.loaded()
	// The round that is nearest: none comes at exactly its time.
	next := w.comparedAt.Add(w.pace.every() - interval/2)
	w.mu.Unlock()
	if now.Before(next) || len(loaded) == 0 {
		return nil
	}
	if err := w.store.disown(ctx, loaded); err != nil {
		return err
	}
	differing, err := w.store.differing(ctx, loaded)
	if err != nil {
		return err
	}
	w.comparedAt = now
	w.mu.Lock()
	defer w.mu.Unlock()
	w.metrics.differed.Add(float64(len(differing)))
	for _, o := range differing {
		w.tracker.differs(w.partitionOf(o), o)
	}
	return nil
}

func (w *Writer) write(ctx context.Context) error {
	for {
		w.mu.Lock()
		batch := w.tracker.changes(maxBatch)
		w.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		began := time.Now()
		changed, lost, err := w.store.write(ctx, batch)
		if err != nil {
			return err
		}
		w.metrics.seconds.Observe(time.Since(began).Seconds())
		w.metrics.changed.Add(float64(changed))
		w.wrote(batch, lost)
	}
}

// wrote notes what is stored. Of a partition that another router has taken
// over, nothing is; if it comes back here it is loaded again.
func (w *Writer) wrote(batch []Change, lost []event.Partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range lost {
		w.metrics.lost.Inc()
		w.tracker.lose(p, time.Now().Add(retake))
	}
	for _, c := range batch {
		if w.tracker.written(c) {
			w.metrics.written.Of(c.Status).Inc()
		}
	}
}

func (w *Writer) complain(what string, err error) {
	w.faults.Do(func() { w.logger.Warn(what, "error", err) })
}
