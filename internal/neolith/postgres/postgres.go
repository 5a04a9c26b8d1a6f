// Package postgres holds a node's connections to Neolith's database: how they
// are configured, whether the database can be asked now, and the gateway's own
// schema in it (Schema), which whatever node comes first brings up to date.
// What is read and written there, its users decide.
//
// Delivery never depends on it: opening waits for nothing, and while PostgreSQL
// is away Run tries again and again.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/outage"
)

// DB is a pool of connections that is never given up. Its methods may be called
// at the same time; Run once at most.
type DB struct {
	// Pool is where connections come from. Every use of it needs a deadline,
	// since PostgreSQL may stop answering at any moment.
	Pool *pgxpool.Pool

	schema   string // of Neolith's tables
	writes   bool   // the server must be one that can be written to
	logger   *slog.Logger
	migrated chan struct{} // closed when Schema is up to date

	outage  *outage.Outage
	servers string // where it is

	mu        sync.Mutex
	up        bool
	migration error // why Schema is not up to date
}

// Open returns at once and has not connected yet. cfg is enabled. application
// is what the server's list of sessions shows. An error means a mistake in the
// configuration.
func Open(cfg Config, application string, logger *slog.Logger, reg prometheus.Registerer) (*DB, error) {
	target, err := cfg.parse()
	if err != nil {
		return nil, err
	}
	target.pool.ConnConfig.RuntimeParams["application_name"] = application
	lost := &failover{giveUp: func() {}}
	target.pool.ConnConfig.Tracer = lost
	// The context is for connections made at once, and there are none.
	pool, err := pgxpool.NewWithConfig(context.Background(), target.pool)
	if err != nil {
		return nil, fmt.Errorf("configure the connections to PostgreSQL: %w", err)
	}
	lost.giveUp = pool.Reset
	d := &DB{
		writes:    target.writes,
		Pool:      pool,
		schema:    target.schema,
		logger:    logger.With("component", "postgres"),
		servers:   servers(target.pool.ConnConfig),
		migrated:  make(chan struct{}),
		migration: errors.New("not prepared yet"),
	}
	if exposed(target.pool) {
		d.logger.Warn("the password for PostgreSQL may travel as plain text, expected DATABASE_TLS_CA, or sslmode in DATABASE_URL")
	}
	d.outage = outage.New("PostgreSQL does not answer", d.logger)
	registerMetrics(reg, d)
	return d, nil
}

// Neolith returns the name of a table of Neolith's, quoted for SQL, in the
// schema that DATABASE_URL names (Prisma's option schema; public if not given).
func (d *DB) Neolith(table string) string { return pgx.Identifier{d.schema, table}.Sanitize() }

// Up reports whether PostgreSQL answered when it was asked last.
func (d *DB) Up() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.up
}

// Migrated is closed when the gateway's own schema is up to date, and may be
// written to.
func (d *DB) Migrated() <-chan struct{} { return d.migrated }

// Check tells /readyz whether PostgreSQL answers and the gateway's schema is up
// to date, from what is known locally. Delivery does not depend on either.
func (d *DB) Check() (ok bool, detail string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !d.up:
		return false, "away: " + cmp.Or(d.outage.Detail(), "not connected yet")
	case d.migration != nil:
		return false, "schema " + Schema + ": " + d.migration.Error()
	}
	return true, "connected"
}

// Run asks PostgreSQL again and again whether it is there, and brings the
// gateway's schema up to date as soon as it is. It returns nil when ctx ends.
func (d *DB) Run(ctx context.Context) error {
	d.probe(ctx)
	var migrating sync.WaitGroup
	migrating.Go(func() { d.migrateUntilDone(ctx) })
	defer migrating.Wait()
	for pause(ctx, d.probeWait()) {
		d.probe(ctx)
	}
	return nil
}

func (d *DB) probeWait() time.Duration {
	if d.Up() {
		return probeInterval
	}
	return retryInterval
}

const (
	probeInterval = 5 * time.Second
	retryInterval = time.Second
	probeTimeout  = 3 * time.Second
)

// pause waits for d, give or take a fifth so that nodes spread out. It reports
// whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	return lifecycle.Sleep(ctx, d*4/5+rand.N(d*2/5))
}

// longest is how long pause may take.
func longest(d time.Duration) time.Duration { return d * 6 / 5 }

func (d *DB) probe(ctx context.Context) {
	probeCtx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := d.ask(probeCtx)
	if ctx.Err() != nil {
		return // it says nothing about PostgreSQL
	}
	d.mu.Lock()
	changed := d.up != (err == nil)
	d.up = err == nil
	d.mu.Unlock()
	switch {
	case err != nil:
		d.outage.Failed(d.servers, d.reason(err), longest(retryInterval))
	case changed:
		d.outage.Over()
		d.logger.Info("PostgreSQL answers")
	}
}

// Close ends all connections, and waits for those in use until ctx ends.
func (d *DB) Close(ctx context.Context) error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		d.Pool.Close()
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the connections to PostgreSQL: %w", context.Cause(ctx))
	}
}
