package testserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/neolith/daemon-gateway/internal/neolith"
)

// PostgresProcess is a server with one database, for programs that are no
// tests. Its methods are not to be called at the same time.
type PostgresProcess struct {
	cluster *postgresCluster
}

// processDatabase is the database of a PostgresProcess.
const processDatabase = "neolith"

// StartPostgres starts a server with an empty database.
func StartPostgres() (*PostgresProcess, error) {
	cluster, err := newPostgresCluster()
	if err != nil {
		return nil, err
	}
	p := &PostgresProcess{cluster: cluster}
	if err := p.createDatabase(); err != nil {
		p.Remove()
		return nil, err
	}
	return p, nil
}

func (p *PostgresProcess) createDatabase() error {
	return p.cluster.execute("create database " + processDatabase)
}

// URL is the postgres:// URL of the database. It stays the same over Lose.
func (p *PostgresProcess) URL() string { return p.cluster.url(processDatabase) }

// Lose ends the server at once and deletes all its data.
func (p *PostgresProcess) Lose() error {
	p.cluster.stop()
	return os.RemoveAll(p.cluster.data())
}

// Begin starts the server again after Lose, with an empty database.
func (p *PostgresProcess) Begin() error {
	if err := p.cluster.initialize(); err != nil {
		return err
	}
	if err := p.cluster.start(); err != nil {
		return err
	}
	return p.createDatabase()
}

// Remove ends the server and deletes all that it has.
func (p *PostgresProcess) Remove() { p.cluster.remove() }

// CreateNeolith creates Neolith's tables, with orchestrators.
func (p *PostgresProcess) CreateNeolith(orchestrators ...Orchestrator) error {
	d := &Database{url: p.URL()}
	if err := d.execute(neolith.Schema); err != nil {
		return fmt.Errorf("create Neolith's tables: %w", err)
	}
	return d.insert(orchestrators)
}

// Query scans the one row of a query's result.
func (p *PostgresProcess) Query(ctx context.Context, into []any, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return conn.QueryRow(ctx, sql, args...).Scan(into...)
}

// Program prepares one of PostgreSQL's programs, such as pg_dump, of the
// server's own version.
func (p *PostgresProcess) Program(name string, args ...string) (*exec.Cmd, error) {
	// Where PATH has the server by a link, it need not have the others.
	server, err := filepath.EvalSymlinks(filepath.Join(p.cluster.install.bin, "postgres"))
	if err != nil {
		return nil, err
	}
	return postgresInstall{bin: filepath.Dir(server), credential: p.cluster.install.credential}.command(name, args...), nil
}
