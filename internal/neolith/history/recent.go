package history

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Past is a session as the history shows it, of whichever edge.
type Past struct {
	Daemon string
	// State is open, ended, or unknown: its edge has not been heard of lately.
	State            string
	Connected, Ended time.Time
	Code             int
	Reason           string
	Address          string
	Edge             string
	Sent, Acked      int64
}

// Last returns the last sessions of an orchestrator that the history has, the newest
// first.
func (r *Recorder) Last(ctx context.Context, orchestrator protocol.OrchestratorID, limit int) ([]Past, error) {
	rows, err := r.store.pool.Query(ctx, `select daemon_id, state, connected_at, ended_at, coalesce(close_code, 0), coalesce(close_reason, ''),
			coalesce(host(remote_address), ''), edge, sent, acked
		from `+postgres.Schema+`.session_overview where orchestrator_id = $1 order by connected_at desc limit $2`, text(string(orchestrator)), limit)
	if err != nil {
		return nil, fmt.Errorf("read the last sessions: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Past, err error) {
		var ended *time.Time
		err = row.Scan(&p.Daemon, &p.State, &p.Connected, &ended, &p.Code, &p.Reason, &p.Address, &p.Edge, &p.Sent, &p.Acked)
		if ended != nil {
			p.Ended = *ended
		}
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the last sessions: %w", err)
	}
	return list, nil
}
