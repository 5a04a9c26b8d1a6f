package edge

import (
	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/neolith/history"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
)

// Fallback says who is let in while PostgreSQL cannot be asked and the
// orchestrator is not remembered.
type Fallback string

// The values of IDENTITY_FALLBACK.
const (
	FallbackToken  Fallback = "token"  // whoever has a token, for the time being
	FallbackCached Fallback = "cached" // nobody
)

// DatabaseConfig says where Neolith's database is, and what to do without it.
type DatabaseConfig struct {
	Postgres         postgres.Config `embed:""`
	Identity         identity.Config `embed:""`
	History          history.Config  `embed:""`
	IdentityFallback Fallback        `help:"While PostgreSQL cannot be asked about an orchestrator that is not remembered: token admits it on its token and looks it up afterwards, cached has it come back later." default:"token" enum:"token,cached" group:"PostgreSQL"`
}

// database is what an edge has where DATABASE_URL is set.
type database struct {
	db       *postgres.DB
	resolver *identity.Resolver
}

// bindDatabase has every daemon's orchestrator looked up, if there is a
// database. It does not wait for it.
func (e *Edge) bindDatabase() error {
	if !e.cfg.Database.Postgres.Enabled() {
		return nil
	}
	db, err := postgres.Open(e.cfg.Database.Postgres, "daemon-gateway edge "+e.cfg.Node(), e.base, e.registry)
	if err != nil {
		return err
	}
	e.undo.Push("PostgreSQL", db.Close)
	resolver, err := identity.New(e.cfg.Database.Identity, db, e.base, e.registry)
	if err != nil {
		return err
	}
	e.database = &database{db: db, resolver: resolver}
	e.history = history.New(e.cfg.Database.History, db, e.cfg.Node(), e.base, e.registry)
	e.registrar = newRegistrar(resolver, e.cfg.Database.IdentityFallback, e.metrics, e.logger)
	return nil
}

// runDatabase runs what belongs to the database.
func (e *Edge) runDatabase(parts *lifecycle.Group) {
	if e.database == nil {
		return
	}
	parts.Go("PostgreSQL", e.database.db.Run)
	parts.Go("identities", e.database.resolver.Run)
	parts.Go("registrar", e.registrar.Run)
	parts.Go("history", e.history.Run)
}

// databaseChecks are what /readyz tells of the database: delivery does not
// depend on it.
func (e *Edge) databaseChecks() []admin.Check {
	if e.database == nil {
		return nil
	}
	return []admin.Check{{Name: "postgres", Ready: e.database.db.Check, Advisory: true}}
}
