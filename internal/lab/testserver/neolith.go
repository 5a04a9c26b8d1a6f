package testserver

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/neolith/daemon-gateway/internal/neolith"
)

// Orchestrator is a row of Neolith's vps, with what it refers to. An empty
// Organization is "org".
type Orchestrator struct {
	ID           string
	User         string
	Organization string
}

// NeolithTables creates the tables of Neolith that the gateway reads.
func (d *Database) NeolithTables(t testing.TB) {
	t.Helper()
	d.Execute(t, neolith.Schema)
}

// AddOrchestrators puts orchestrators into Neolith's tables, AWAY, and what they
// refer to where it is missing. OFFLINE, the column's default, means disabled.
func (d *Database) AddOrchestrators(t testing.TB, orchestrators ...Orchestrator) {
	t.Helper()
	if err := d.insert(orchestrators); err != nil {
		t.Fatalf("add orchestrators to the test's database: %v", err)
	}
}

func (d *Database) insert(orchestrators []Orchestrator) error {
	var ids, users, organizations []string
	for _, o := range orchestrators {
		if o.Organization == "" {
			o.Organization = "org"
		}
		ids, users, organizations = append(ids, o.ID), append(users, o.User), append(organizations, o.Organization)
	}
	return d.execute(`with
		new_organizations as (insert into organizations (id, name, slug) select distinct o, o, o from unnest($3::text[]) o on conflict do nothing),
		new_users as (insert into users (id, email, is_vp) select distinct u, u, true from unnest($2::text[]) u on conflict do nothing)
		insert into vps (id, discipline, role, status, user_id, organization_id)
		select i, 'engineering', 'developer', 'AWAY', u, o from unnest($1::text[], $2::text[], $3::text[]) as given (i, u, o)`, ids, users, organizations)
}

// Execute runs SQL on the database; without arguments it may be several
// statements.
func (d *Database) Execute(t testing.TB, sql string, args ...any) {
	t.Helper()
	if err := d.execute(sql, args...); err != nil {
		t.Fatalf("execute on the test's database: %v", err)
	}
}

func (d *Database) execute(sql string, args ...any) error {
	return withConnection(d.url, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	})
}
