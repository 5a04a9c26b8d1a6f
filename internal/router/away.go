package router

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// awayInterval is how often a partition is counted, and awayShare bounds what
	// that takes: one part of the time in so many.
	awayInterval = time.Minute
	awayShare    = 20
)

// away counts what waits in the log for orchestrators that no edge holds. Nothing
// depends on it but metrics: events wait in the log whether somebody counts them
// or not.
type away struct {
	log     *eventlog.Log
	holders func(dst []string, orchestrator event.Token) []string
	owned   func() []event.Partition
	metrics *metrics
	logger  *slog.Logger

	next map[event.Partition]time.Time // when a partition is due; owned by run
}

// waiting is what waits in a partition.
type waiting struct {
	orchestrators, events int
	// full are the orchestrators for whom as many events wait as are kept of one:
	// with the next one the oldest is gone undelivered.
	full int
	// deepest is the largest share of what is kept of one that waits for one of the
	// others, and oldest the age of the oldest event as a share of the retention.
	deepest, oldest float64
}

// add counts the events of one orchestrator, of which the oldest was stored then.
func (w *waiting) add(events int, stored, now time.Time, limits eventlog.Config) {
	w.orchestrators++
	w.events += events
	if share := float64(events) / float64(limits.EventsPerOrchestrator); share < 1 {
		w.deepest = max(w.deepest, share)
	} else {
		w.full++
	}
	w.oldest = max(w.oldest, now.Sub(stored).Seconds()/limits.EventRetention.Seconds())
}

func (a *away) run(ctx context.Context) error {
	a.next = map[event.Partition]time.Time{}
	lifecycle.Every(ctx, time.Second, func(now time.Time) {
		owned := map[event.Partition]bool{}
		for _, p := range a.owned() {
			owned[p] = true
			if now.Before(a.next[p]) || ctx.Err() != nil {
				continue
			}
			began := time.Now()
			found, err := a.count(ctx, p)
			a.next[p] = time.Now().Add(max(awayInterval, awayShare*time.Since(began)))
			if err != nil {
				a.logger.Debug("what waits for daemons that are away is not known now", "partition", int(p), "error", err)
				continue
			}
			a.metrics.waitsAway(label(p), found)
		}
		for p := range a.next {
			if !owned[p] {
				delete(a.next, p)
				a.metrics.forgetAway(label(p))
			}
		}
	})
	return nil
}

// count looks at all orchestrators of a partition that no edge holds.
func (a *away) count(ctx context.Context, p event.Partition) (found waiting, err error) {
	held, err := a.log.Counts(ctx, p)
	if err != nil {
		return waiting{}, err
	}
	var absent []event.Token
	for token := range held {
		if len(a.holders(nil, token)) == 0 && !isCanary(token) {
			absent = append(absent, token)
		}
	}
	settled, err := a.settled(ctx, p, absent)
	if err != nil {
		return waiting{}, err
	}
	lasts, err := a.log.LastSequences(ctx, p, absent)
	if err != nil {
		return waiting{}, err
	}
	for i, token := range absent {
		if lasts[i].Sequence <= settled[token] {
			continue
		}
		page, err := a.log.Read(ctx, p, token, settled[token]+1, 1, 1)
		if err != nil {
			return waiting{}, err
		}
		events := len(page.Messages) + int(page.Remaining)
		if events == 0 { // it has come and gone meanwhile
			continue
		}
		oldest := time.Now()
		if len(page.Messages) > 0 {
			oldest = page.Messages[0].Stored
		}
		found.add(events, oldest, time.Now(), a.log.Config())
	}
	return found, nil
}

func isCanary(token event.Token) bool {
	id, err := token.ID()
	return err == nil && protocol.OrchestratorID(id).Reserved()
}

// settled returns how far each orchestrator's daemons have come: that of them
// which has come farthest, since the others may be gone for good. Nobody has come
// anywhere in another epoch of the log.
func (a *away) settled(ctx context.Context, p event.Partition, tokens []event.Token) (map[event.Token]uint64, error) {
	bucket := eventlog.CursorBucket(p)
	subjects := make([]string, len(tokens))
	for i, token := range tokens {
		subjects[i] = eventlog.BucketSubject(bucket, string(token))
	}
	stored, err := a.log.LastMessages(ctx, eventlog.BucketStream(bucket), subjects)
	if err != nil {
		return nil, fmt.Errorf("cursors of partition %d: %w", p, err)
	}
	epoch := a.log.Epoch(p)
	floors := make(map[event.Token]uint64, len(tokens))
	for i, token := range tokens {
		rec, err := cursor.Decode(stored[subjects[i]].Data)
		if err != nil || rec.Epoch != epoch {
			continue // as edges do: from the oldest event
		}
		for _, e := range rec.Daemons {
			floors[token] = max(floors[token], e.Floor)
		}
	}
	return floors, nil
}
