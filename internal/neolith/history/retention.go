package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
)

const (
	// pace is the time between two steps, whoever does them: at most 1,000 rows a
	// second, over the whole cluster.
	pace = time.Second
	// idlePace is how often a node looks whether there is anything to do.
	idlePace = time.Minute
	// lostAfter is for how long an edge must not have been seen before it counts
	// as one that does not come back, or does so under another name.
	lostAfter = time.Hour
	// upkeepLock is held by the node that does a step. Any number would do.
	upkeepLock = 0x686973746f7279 // "history"
)

// clean deletes what is over the retention, until ctx ends.
func (r *Recorder) clean(ctx context.Context) {
	wait := pace
	for lifecycle.Sleep(ctx, wait+rand.N(wait/2)) {
		more, err := r.cleanSome(ctx)
		if err != nil && ctx.Err() == nil {
			r.metrics.errors.Inc()
			r.complain("the history is not cleaned", err)
		}
		if wait = idlePace; more {
			wait = pace
		}
	}
}

// cleanSome does one step, if it is this node's turn. It reports whether there
// is more to do.
func (r *Recorder) cleanSome(ctx context.Context) (more bool, err error) {
	deleted, ended, err := r.store.cleanSome(ctx, pace)
	r.metrics.deleted.Add(float64(deleted))
	return deleted == stepRows || ended == stepRows, err
}

// cleanSome deletes some sessions that are over the retention, and ends some of
// edges that are lost. It does nothing if the last step, of any node, was less
// than pace ago.
func (s *store) cleanSome(ctx context.Context, pace time.Duration) (deleted, ended int, err error) {
	err = s.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		ours, err := s.takeTurn(ctx, tx, pace)
		if err != nil || !ours {
			return err
		}
		if deleted, err = s.deleteSome(ctx, tx); err != nil {
			return err
		}
		ended, err = endLost(ctx, tx)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("clean the history: %w", err)
	}
	return deleted, ended, nil
}

// deleteSome finds rows in the index of time and takes them by their place, so
// that a step costs as much as it deletes.
func (s *store) deleteSome(ctx context.Context, tx pgx.Tx) (int, error) {
	tag, err := tx.Exec(ctx, fmt.Sprintf(`delete from %[1]s.sessions where ctid = any (array(
		select ctid from %[1]s.sessions where connected_at < now() - make_interval(secs => $1) order by connected_at limit %[2]d))`,
		postgres.Schema, stepRows), s.retention.Seconds())
	return int(tag.RowsAffected()), err
}

// endLost ends some sessions of edges that have not come back, and forgets
// those edges of which none is left.
func endLost(ctx context.Context, tx pgx.Tx) (int, error) {
	const lost = `seen_at < now() - make_interval(secs => $1)`
	ended, err := endSome(ctx, tx, "edge lost", `edge in (select edge from `+postgres.Schema+`.edges where `+lost+`)`, lostAfter.Seconds())
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf(`delete from %[1]s.edges e where %[2]s
		and not exists (select from %[1]s.sessions s where s.edge = e.edge and s.ended_at is null)`, postgres.Schema, lost), lostAfter.Seconds())
	return ended, err
}

// takeTurn reports whether this node may do the next step: one does at a time,
// and not sooner than pace after the last.
func (s *store) takeTurn(ctx context.Context, tx pgx.Tx, pace time.Duration) (ours bool, err error) {
	if err := tx.QueryRow(ctx, `select pg_try_advisory_xact_lock($1)`, int64(upkeepLock)).Scan(&ours); err != nil || !ours {
		return false, err
	}
	tag, err := tx.Exec(ctx, `update `+postgres.Schema+`.upkeep set done_at = now(), node = $1
		where task = 'history' and done_at <= now() - make_interval(secs => $2)`, s.edge, pace.Seconds())
	return tag.RowsAffected() == 1, err
}
