package bridge

import (
	"context"
	"errors"
	"time"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/bridge/waiting"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
)

// database is what a bridge has where there is one: who the orchestrators are,
// and the events that wait for theirs.
type database struct {
	db       *postgres.DB
	resolver *identity.Resolver
	backlog  *backlogState
	releaser *releaser // once the log is open
}

// bindDatabase has every event's orchestrator asked for, if there is a database.
func (a *App) bindDatabase() error {
	if !a.cfg.Postgres.Enabled() {
		return nil
	}
	db, err := postgres.Open(a.cfg.Postgres, "daemon-gateway publisher-bridge "+a.cfg.Node(), a.base, a.registry)
	if err != nil {
		return err
	}
	a.teardown.Push("PostgreSQL", db.Close)
	resolver, err := identity.New(a.cfg.Identity, db, a.base, a.registry)
	if err != nil {
		return err
	}
	a.database = &database{db: db, resolver: resolver, backlog: newBacklogState(a.cfg.Log.EventsPerOrchestrator, a.registry)}
	a.book = &addressBook{identities: resolver, waiting: waiting.New()}
	return nil
}

// openUnresolved opens the stream of events that wait, and learns who waits
// there.
func (a *App) openUnresolved(ctx context.Context, log *eventlog.Log) error {
	if a.database == nil {
		return nil
	}
	a.opening.Waits("opening the stream of unresolved events")
	stream, err := log.OpenUnresolved(ctx, a.opening.Waits)
	if err != nil {
		return err
	}
	a.book.unresolved = stream
	a.database.releaser = newReleaser(stream, a.pump, a.database.backlog, a.metrics, a.logger)
	for failures := 1; ; failures++ {
		_, err := a.database.releaser.list(ctx)
		if err == nil {
			a.opening.Waits("")
			return nil
		}
		a.opening.Waits(err.Error())
		select {
		case <-time.After(workBackoff.delay(failures)):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// runDatabase runs what belongs to the database. The resolver goes on until all
// is published, because publishing needs it.
func (a *App) runDatabase(group *lifecycle.Group, bring func(string, func(context.Context) error), published <-chan struct{}) {
	if a.database == nil {
		return
	}
	group.Go("PostgreSQL", outliving(published, a.database.db.Run))
	group.Go("identities", outliving(published, a.database.resolver.Run))
	bring("release unresolved events", a.whenOpen(func(ctx context.Context) error { return a.database.releaser.Run(ctx) }))
}

// whenOpen runs a part from when the log is open until its context ends.
func (a *App) whenOpen(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-a.open:
			return run(ctx)
		}
	}
}

// outliving runs a part until its context has ended and all is published.
func outliving(published <-chan struct{}, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		longer, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		defer context.AfterFunc(ctx, func() {
			<-published
			stop()
		})()
		return run(longer)
	}
}

// databaseChecks are what /readyz tells of the database. Delivery to those who
// are known does not depend on it.
func (a *App) databaseChecks() []admin.Check {
	if a.database == nil {
		return nil
	}
	return []admin.Check{
		{Name: "postgres", Ready: a.database.db.Check, Advisory: true},
		{Name: "unresolved", Ready: a.database.backlog.check, Advisory: true},
	}
}
