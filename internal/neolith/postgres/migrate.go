package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// Schema is the gateway's own schema. Everything in it is made by the
// migrations in this package, and nothing outside it is.
const Schema = "daemon_gateway"

// migrations are applied in the order of their numbers, each in a transaction
// of its own. Nodes of the previous version run on while a new one migrates, so
// each migration leaves working what that version does.
//
//go:embed migrations/*.sql
var migrations embed.FS

const (
	migrationTimeout = time.Minute
	migrationRetry   = 5 * time.Second
	// migrationLock is held by the node that migrates. Any number would do.
	migrationLock = 0x6461656d6f6e // "daemon"
)

var errMigratedElsewhere = errors.New("another node is bringing it up to date")

// migrateUntilDone returns when the schema is up to date, or ctx ends.
func (d *DB) migrateUntilDone(ctx context.Context) {
	for {
		wait := retryInterval
		if d.Up() {
			err := d.migrate(ctx)
			if ctx.Err() != nil {
				return
			}
			d.noteMigration(err)
			if err == nil {
				return
			}
			if !errors.Is(err, errMigratedElsewhere) {
				wait = migrationRetry
			}
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

func (d *DB) noteMigration(err error) {
	d.mu.Lock()
	changed := err == nil || d.migration.Error() != err.Error()
	d.migration = err
	d.mu.Unlock()
	switch {
	case err == nil:
		close(d.migrated)
	case changed && errors.Is(err, errMigratedElsewhere):
		d.logger.Info("waiting for the schema", "schema", Schema, "reason", err)
	case changed:
		d.logger.Error("the schema cannot be brought up to date", "schema", Schema, "error", err)
	}
}

// migrate brings the schema up to date, unless another node is at it. The lock
// belongs to a transaction, kept open on a connection of its own: a session's
// lock would stay behind on some server connection of PgBouncer's. If that
// connection is lost meanwhile, a second node may begin too; then one of the two
// fails at what the other has made, with its transaction rolled back, and tries
// again. That is why the migrations run with goose: its own locks can be left out,
// where tern and golang-migrate always take a session's.
func (d *DB) migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, migrationTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, d.Pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	// Closing also ends the transaction, and waits a moment for the server to
	// know.
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	lock, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	var locked bool
	if err := lock.QueryRow(ctx, "select pg_try_advisory_xact_lock($1)", int64(migrationLock)).Scan(&locked); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if !locked {
		return errMigratedElsewhere
	}
	if err := d.createSchema(ctx); err != nil {
		return fmt.Errorf("create it: %w", err)
	}
	return d.applyMigrations(ctx)
}

// createSchema looks first: "if not exists" asks for the right to create one
// even where an administrator has done so.
func (d *DB) createSchema(ctx context.Context) error {
	var exists bool
	err := d.Pool.QueryRow(ctx, "select exists (select from pg_namespace where nspname = $1)", Schema).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = d.Pool.Exec(ctx, "create schema "+Schema)
	return err
}

func (d *DB) applyMigrations(ctx context.Context) (err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(d.Pool)
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(Schema+".migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	applied, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("apply migrations: %w", err)
	}
	for _, m := range applied {
		d.logger.Info("migration applied", "schema", Schema, "migration", m.Source.Path, "took", m.Duration)
	}
	return nil
}
