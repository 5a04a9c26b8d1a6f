package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Bounds of what an edge does at once, and the least of it that each partition
// has to itself: one that does not answer keeps its jobs for seconds. The log
// bounds its requests by itself; these bound the goroutines that wait for it.
const (
	concurrentStarts, startsOfEach           = 1024, 32
	concurrentReads, readsOfEach             = 32, 8
	concurrentDeadLetters, deadLettersOfEach = 32, 8
	// asksOfEach is as much as a partition ever asks at once: for newest events, and for
	// the epoch, with one more who waits for that answer.
	asksOfEach = 3

	startTimeout  = 15 * time.Second
	reloadTimeout = 10 * time.Second
)

// logSide does for connections what needs the log or the cursors. None of its
// methods blocks; answers come to the connection as inputs.
type logSide struct {
	self    string // this edge, as the directory has it
	log     *eventlog.Log
	cursors *cursor.Store
	hub     *hub
	logger  *slog.Logger
	// alive returns which edges the directory shows; nil: nothing is known yet.
	alive func() func(edge string) bool

	gatherers   []*gatherer
	starts      []*pool // of each partition
	asks        *pool
	reads       []*pool // of each partition
	deadLetters []*pool // of each partition
	pings       *pool
	standings   *pool
	epochs      *epochKeeper
}

func newLogSide(ctx context.Context, crew *lifecycle.Crew, self string, log *eventlog.Log, cursors *cursor.Store, h *hub, logger *slog.Logger, alive func() func(string) bool) *logSide {
	l := &logSide{
		self: self, log: log, cursors: cursors, hub: h, logger: logger, alive: alive,
		asks:      newPool(ctx, crew, asksOfEach*log.Config().Partitions),
		pings:     newPool(ctx, crew, math.MaxInt), // one of each connection at most
		standings: newPool(ctx, crew, log.Config().Partitions),
		epochs:    newEpochKeeper(log),
	}
	partitions := log.Config().Partitions
	for p := range event.Partition(partitions) {
		l.starts = append(l.starts, newPool(ctx, crew, max(concurrentStarts/partitions, startsOfEach)))
		l.reads = append(l.reads, newPool(ctx, crew, max(concurrentReads/partitions, readsOfEach)))
		l.deadLetters = append(l.deadLetters, newPool(ctx, crew, max(concurrentDeadLetters/partitions, deadLettersOfEach)))
		l.gatherers = append(l.gatherers, &gatherer{
			partition: p, ask: log.LastSequences, pool: l.asks, pace: eventlog.Pace{First: gatherDelay, Second: true},
		})
	}
	log.OnEpoch(l.epochChanged)
	return l
}

// close returns when nothing runs any more; the context has ended before.
func (l *logSide) close() {
	for _, p := range slices.Concat([]*pool{l.standings, l.pings, l.asks}, l.starts, l.reads, l.deadLetters) {
		p.close()
	}
}

// detached drops what waits of a connection that has ended.
func (l *logSide) detached(c *connection) {
	for _, p := range []*pool{l.pings, l.starts[c.partition], l.reads[c.partition], l.deadLetters[c.partition]} {
		p.forget(c)
	}
}

// start decides where a connection starts, and writes it (Begin). A patient
// start is put off while the daemon has not subscribed to all that it, or its
// predecessor, wanted.
//
// A daemon that has begun on another edge before first shows that it is there:
// an edge that stood still may only now get to a connection that its daemon has
// given up for that other one, and must not decide for the daemon (invariant 1).
// So does one that wants less than it did, when its series of subscribes should be
// over: the rest may be lost with its link.
func (l *logSide) start(c *connection, run uint32, patient bool) {
	l.starts[c.partition].submit(c, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		l.begin(ctx, c, run, patient)
	})
}

// begin is one try of start.
func (l *logSide) begin(ctx context.Context, c *connection, run uint32, patient bool) {
	epoch := l.log.Epoch(c.partition)
	resume, resumes := l.resume(ctx, c, epoch)
	var elsewhere uint64 // the daemon's last start, if that is yet to be shown
	decided, err := c.cursor.Begin(ctx, func(rec cursor.Record) (cursor.Record, cursor.Decision, bool) {
		elsewhere = 0
		subscriptions, since, starting := c.starting(run)
		if !starting || c.svc.admission.replaced(c) {
			return rec, cursor.Decision{}, false
		}
		req := cursor.StartRequest{
			Daemon: c.daemon, Edge: l.self, Subscriptions: subscriptions, Since: since, Alive: l.alive(),
			Resume: resume, HasResume: resumes, Epoch: epoch, Now: time.Now(), MaxAge: l.log.Config().EventRetention,
		}
		incomplete := cursor.Incomplete(rec, req)
		less := incomplete && !patient
		doubtful := rec.Daemons[c.daemon].Edge != l.self || less
		if last, before := rec.LastStart(c.daemon); before && doubtful && !c.livesSince(last, less) {
			elsewhere = last
			return rec, cursor.Decision{}, false
		}
		if rec.Epoch == epoch && !l.epochs.covers(ctx, eventlog.Position{Partition: c.partition, Epoch: epoch, Sequence: rec.Highest()}) {
			return rec, cursor.Decision{}, false
		}
		if patient && incomplete {
			return rec, cursor.Decision{}, false
		}
		next, d := cursor.Start(rec, req)
		return next, d, true
	}, func(d cursor.Decision) { c.started(run, epoch, d) })
	switch {
	case decided || errors.Is(err, cursor.ErrEnded):
	case err != nil:
		l.logger.Warn("start of a connection not decided, trying again", "orchestrator", c.token, "daemon", c.daemon, "session", c.id, "error", err)
		c.startFailed(run)
	case elsewhere != 0:
		l.challenge(c, run, patient, elsewhere)
	default:
		c.startFailed(run)
	}
}

// challenge starts a connection whose daemon has begun elsewhere once it has
// answered a ping, however long that takes: a slow machine or link is no reason
// to cut a daemon off. One that is gone is found out by the heartbeats that do
// not come.
func (l *logSide) challenge(c *connection, run uint32, patient bool, last uint64) {
	l.pings.submit(c, func(ctx context.Context) {
		defer c.rescued()
		if err := c.socket.Ping(ctx); err != nil {
			c.startFailed(run) // of no effect where it has ended
			return
		}
		c.answered(pingAnswer{last, !patient})
		l.start(c, run, patient)
	})
}

// resume returns the sequence after which the daemon asked to continue, if that
// means something: of this partition and epoch, and not above the log's last.
func (l *logSide) resume(ctx context.Context, c *connection, epoch eventlog.Epoch) (uint64, bool) {
	if c.resume == "" {
		return 0, false
	}
	pos, err := eventlog.ParsePosition(c.resume)
	if err != nil || pos.Partition != c.partition || pos.Epoch != epoch {
		return 0, false
	}
	return pos.Sequence, l.epochs.reached(ctx, pos)
}

// askLast asks where the orchestrator's newest event stands (AskLast).
func (l *logSide) askLast(c *connection, run uint32) {
	l.gatherers[c.partition].add(c.token, func(last eventlog.Last, err error) { c.lastKnown(run, last, err) })
}

// read reads the orchestrator's events (Read).
func (l *logSide) read(c *connection, r session.Read) {
	l.reads[c.partition].submit(c, func(ctx context.Context) {
		defer c.rescued()
		page, err := l.log.Read(ctx, c.partition, c.token, r.From, r.MaxEvents, r.MaxBytes)
		if uint64(len(page.Messages))+page.Remaining >= uint64(c.svc.cfg.Log.EventsPerOrchestrator) {
			c.svc.metrics.evictions.Inc()
		}
		c.readDone(r.Run, page, err)
	})
}

// deadLetter stores an event that the daemon never acknowledged (DeadLetter).
func (l *logSide) deadLetter(c *connection, d session.DeadLetter, epoch eventlog.Epoch) {
	l.deadLetters[c.partition].submit(c, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		err := l.storeDeadLetter(ctx, c, d, epoch)
		if err != nil {
			l.logger.Warn("dead letter not stored, trying again",
				d.Trace.Log("orchestrator", c.token, "daemon", c.daemon, "event", d.Event.ID, "error", err)...)
		}
		c.deadLettered(d.Run, d.Sequence, err == nil)
	})
}

func (l *logSide) storeDeadLetter(ctx context.Context, c *connection, d session.DeadLetter, epoch eventlog.Epoch) error {
	elsewhere, err := l.settledElsewhere(ctx, c, d.Sequence, epoch)
	if err != nil {
		return err
	}
	l.logger.Warn("event given up after the last try", d.Trace.Log("orchestrator", c.token, "daemon", c.daemon,
		"event", d.Event.ID, "tries", d.Tries, "settled_elsewhere", elsewhere)...)
	return l.log.DeadLetter(ctx, eventlog.DeadLetter{
		Reason: event.ReasonUndelivered, Token: c.token, EventID: d.Event.ID, Daemon: c.daemon,
		Detail:           fmt.Sprintf("tried in vain %d times: not acknowledged in time, or in hand when the connection broke", d.Tries),
		SettledElsewhere: elsewhere, Sequence: d.Sequence, Epoch: epoch, Body: d.Body,
	})
}

// settledElsewhere reports whether the cursor of another daemon has settled
// the event.
func (l *logSide) settledElsewhere(ctx context.Context, c *connection, sequence uint64, epoch eventlog.Epoch) (bool, error) {
	elsewhere := false
	err := l.cursors.Update(ctx, c.token, func(rec cursor.Record) (cursor.Record, bool) {
		elsewhere = false
		for id, entry := range rec.Daemons {
			elsewhere = elsewhere || rec.Epoch == epoch && id != c.daemon && entry.Settles(sequence)
		}
		return rec, false
	})
	return elsewhere, err
}

// runNet asks the log for every connection whether it has missed anything: a
// partition at a time, each once an interval.
func (l *logSide) runNet(ctx context.Context, interval time.Duration) error {
	partitions := len(l.gatherers)
	step := interval / time.Duration(partitions)
	for p := rand.IntN(partitions); ; p = (p + 1) % partitions {
		// Jittered, so that the edges of a cluster do not ask in step.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(step/2 + rand.N(step+1)):
		}
		l.checkPartition(event.Partition(p))
	}
}

// checkPartition also finds out whether the log still has what the sessions have
// seen of it. Where it was rolled back, and no router remembers more than it has
// now, nobody else would: what is stored next would be taken for what was sent.
func (l *logSide) checkPartition(p event.Partition) {
	seen := eventlog.Position{Partition: p, Epoch: l.log.Epoch(p)}
	for _, c := range l.hub.inPartition(p) {
		if at := c.position(); at.Epoch == seen.Epoch {
			seen.Sequence = max(seen.Sequence, at.Sequence)
		}
		c.check()
	}
	l.hub.sweep(p, time.Now())
	if seen.Sequence > 0 {
		// A partition without a leader holds up no other.
		l.standings.forget(p)
		l.standings.submit(p, func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
			defer cancel()
			l.epochs.covers(ctx, seen)
		})
	}
}

// spreadAfterReconnect is over how long the questions after a reconnect to NATS
// are spread: an event that was lost, with none behind it that shows the gap,
// waits for them.
const spreadAfterReconnect = time.Second

// runReconnects asks for all connections at once, spread over some seconds,
// each time that NATS has come back: what was forwarded meanwhile is lost.
func (l *logSide) runReconnects(ctx context.Context, reconnected <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reconnected:
		}
		for p := range l.gatherers {
			l.epochs.refresh(ctx, event.Partition(p), l.epochConfirmed)
			l.checkPartition(event.Partition(p))
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(spreadAfterReconnect / time.Duration(len(l.gatherers))):
			}
		}
	}
}

// refreshEpoch asks the leader for the epoch of a partition (RefreshEpoch).
func (l *logSide) refreshEpoch(p event.Partition) {
	if l.epochs.want(p) {
		l.asks.submit(p, func(ctx context.Context) { l.epochs.refresh(ctx, p, l.epochConfirmed) })
	}
}

// epochConfirmed is for sessions that run in another epoch than the leader's,
// whatever made them miss the change.
func (l *logSide) epochConfirmed(p event.Partition, epoch eventlog.Epoch) {
	for _, c := range l.hub.inPartition(p) {
		if c.epoch() != epoch {
			c.epochChanged(epoch)
		}
	}
}

func (l *logSide) epochChanged(p event.Partition, epoch eventlog.Epoch) {
	for _, c := range l.hub.inPartition(p) {
		c.epochChanged(epoch)
	}
}
