package identity

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// row is an orchestrator of Neolith's as far as it matters here.
type row struct {
	ID           protocol.OrchestratorID
	User         protocol.OrchestratorID
	Organization OrganizationID
}

// query returns the rows that any of ids may mean, some of them twice. Two
// branches, because each then has an index of its own whatever the planner
// thinks of OR.
func query(ctx context.Context, db *postgres.DB, ids []string) ([]row, error) {
	const columns = "select id, coalesce(user_id, ''), coalesce(organization_id, '') from "
	table := db.Neolith("vps")
	rows, err := db.Pool.Query(ctx, columns+table+" where id = any($1) union all "+columns+table+" where user_id = any($1)", ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[row])
}

// match finds what each id means. What is one orchestrator's id and another's
// user id means the first: ids are what tokens carry, and whoever may choose a
// user id must not receive another's events by it.
func match(ids []protocol.OrchestratorID, rows []row) map[protocol.OrchestratorID]Identity {
	byID := make(map[protocol.OrchestratorID]Identity, len(rows))
	byUser := make(map[protocol.OrchestratorID]Identity, len(rows))
	for _, r := range rows {
		identity := Identity{Orchestrator: r.ID, User: r.User, Organization: r.Organization}
		byID[r.ID], byUser[r.User] = identity, identity
	}
	found := make(map[protocol.OrchestratorID]Identity, len(ids))
	for _, id := range ids {
		if identity, ok := byID[id]; ok {
			found[id] = identity
		} else if identity, ok := byUser[id]; ok {
			found[id] = identity
		}
	}
	return found
}
