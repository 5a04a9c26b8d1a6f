package history

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/neolith/daemon-gateway/internal/latest"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// statementTimeout is for one transaction.
	statementTimeout = 10 * time.Second
	// stepRows is how many rows a step of upkeep touches.
	stepRows = 1_000
)

type entry = latest.Entry[protocol.SessionID, Session]

// store is the history in PostgreSQL. Each method is one transaction, or
// several that may be repeated, and works through PgBouncer in transaction mode.
type store struct {
	pool      *pgxpool.Pool
	edge      string
	started   time.Time
	retention time.Duration
}

// columns of sessions, in the order of row.
var columns = []string{
	"session_id", "orchestrator_id", "daemon_id", "edge", "remote_address", "connected_at", "authenticated_at", "subscribed_at",
	"ended_at", "close_code", "close_reason", "sent", "acked", "redelivered",
}

func (s *store) row(v Session) []any {
	return []any{
		string(v.ID), text(string(v.Orchestrator)), text(string(v.Daemon)), text(s.edge), address(v.RemoteAddress),
		v.Connected, at(v.Authenticated), at(v.Subscribed), at(v.Ended), code(v), reason(v), v.Sent, v.Acked, v.Redelivered,
	}
}

// text is what PostgreSQL takes as text: ids and reasons come from daemons.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func at(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

func address(a netip.Addr) any {
	if !a.IsValid() {
		return nil
	}
	return a.Unmap().WithZone("")
}

func code(v Session) any {
	if v.Ended.IsZero() {
		return nil
	}
	return v.CloseCode
}

func reason(v Session) any {
	if v.Ended.IsZero() {
		return nil
	}
	return text(v.CloseReason)
}

// merge takes the batch over. A transaction whose outcome got lost may still be
// carried out after the next one: it must not open again what has ended.
var merge = func() string {
	var set []string
	for _, c := range columns[1:] {
		set = append(set, c+" = excluded."+c)
	}
	list := strings.Join(columns, ", ")
	return `insert into ` + postgres.Schema + `.sessions as s (` + list + `) select ` + list + ` from pg_temp.history_batch
		on conflict (session_id) do update set ` + strings.Join(set, ", ") + `
		where s.ended_at is null or excluded.ended_at is not null`
}()

// write stores a batch of at most one state of each session.
func (s *store) write(ctx context.Context, batch []*entry) error {
	err := s.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `create temporary table history_batch (like `+postgres.Schema+`.sessions) on commit drop`)
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"pg_temp", "history_batch"}, columns,
			pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) { return s.row(batch[i].Value), nil }))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, merge)
		return err
	})
	if err != nil {
		return fmt.Errorf("record %d sessions: %w", len(batch), err)
	}
	return nil
}

// endCrashed ends what earlier processes of this node left open, as of when the
// last one was seen: nobody knows more. It returns how many sessions.
func (s *store) endCrashed(ctx context.Context) (ended int, err error) {
	for {
		n := 0
		err := s.transaction(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			n, err = endSome(ctx, tx, "edge crashed", `edge = $1 and connected_at < $2`, s.edge, s.started)
			return err
		})
		if err != nil {
			return ended, fmt.Errorf("end the sessions of the crashed process: %w", err)
		}
		ended += n
		if n < stepRows {
			return ended, nil
		}
	}
}

// endSome ends up to stepRows of the open sessions that a condition holds for.
func endSome(ctx context.Context, tx pgx.Tx, why, condition string, args ...any) (int, error) {
	tag, err := tx.Exec(ctx, fmt.Sprintf(`
		update %[1]s.sessions s set close_reason = '%[2]s', ended_at = greatest(s.connected_at, s.authenticated_at, s.subscribed_at,
			(select e.seen_at from %[1]s.edges e where e.edge = s.edge))
		where s.ended_at is null
			and s.ctid = any (array(select ctid from %[1]s.sessions where ended_at is null and %[3]s limit %[4]d))`,
		postgres.Schema, why, condition, stepRows), args...)
	return int(tag.RowsAffected()), err
}

// seen notes that this edge is there.
func (s *store) seen(ctx context.Context, now time.Time) error {
	err := s.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into `+postgres.Schema+`.edges (edge, started_at, seen_at) values ($1, $2, $3)
			on conflict (edge) do update set started_at = excluded.started_at, seen_at = excluded.seen_at`, s.edge, s.started, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("note that the edge is there: %w", err)
	}
	return nil
}

func (s *store) transaction(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return do(ctx, tx) })
}
