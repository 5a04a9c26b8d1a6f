package testserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// PostgresServer is a postgres process that belongs to one test, which may stop
// and pause it. It keeps its port and its data. Methods may be called at the
// same time.
type PostgresServer struct {
	*Database
	t       testing.TB
	cluster *postgresCluster
}

// Database is a fresh, empty database on a running server.
type Database struct {
	url string
}

// URL is the postgres:// URL of the database.
func (d *Database) URL() string { return d.url }

// Connect returns a connection to the database, for as long as the test runs.
func (d *Database) Connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), d.url)
	if err != nil {
		t.Fatalf("connect to the test's database: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Postgres returns a fresh database on a server that the tests of this process
// share, and drops it with the test. The package needs a TestMain that calls
// Main, which ends the server. It fails the test, saying what to install, where
// there is no PostgreSQL.
func Postgres(t testing.TB) *Database {
	t.Helper()
	cluster, err := sharedPostgres.get()
	if err != nil {
		t.Fatal(err)
	}
	name, err := cluster.createDatabase()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.execute("drop database " + name + " with (force)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return &Database{url: cluster.url(name)}
}

// OwnPostgres starts a server for this test alone, which may stop and pause it, with
// one fresh database. It costs much more than Postgres.
func OwnPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	cluster, err := newPostgresCluster()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.remove)
	return &PostgresServer{Database: &Database{url: cluster.url(maintenanceDatabase)}, t: t, cluster: cluster}
}

// Start starts the server again after Stop, on the same port and data.
func (s *PostgresServer) Start() {
	s.t.Helper()
	if err := s.cluster.start(); err != nil {
		s.t.Fatal(err)
	}
}

// Stop ends the server at once, as a crash would, and waits until it is gone.
func (s *PostgresServer) Stop() { s.cluster.stop() }

// Pause stops the server and its sessions from running (SIGSTOP): it accepts
// connections and answers nothing.
func (s *PostgresServer) Pause() {
	s.t.Helper()
	if err := s.cluster.process.Pause(); err != nil {
		s.t.Fatal(err)
	}
}

// Resume lets a paused server go on.
func (s *PostgresServer) Resume() { s.cluster.process.Resume() }

// sharedPostgres is the server of Postgres: begun by the first test that needs
// it, ended by Main.
var sharedPostgres postgresOfProcess

type postgresOfProcess struct {
	mu      sync.Mutex
	main    bool // Main runs, and will end the server
	cluster *postgresCluster
	err     error
}

func (p *postgresOfProcess) get() (*postgresCluster, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.main {
		return nil, fmt.Errorf("testserver.Postgres needs func TestMain(m *testing.M) { testserver.Main(m) } in its package")
	}
	if p.cluster == nil && p.err == nil {
		p.cluster, p.err = newPostgresCluster()
	}
	return p.cluster, p.err
}

func (p *postgresOfProcess) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.main = true
}

func (p *postgresOfProcess) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cluster != nil {
		p.cluster.remove()
	}
	p.main, p.cluster = false, nil
}

// postgresCluster is what PostgreSQL calls a cluster: a data directory and the
// server on it.
type postgresCluster struct {
	install postgresInstall
	dir     string
	port    int
	process *process.Process
	options []string     // of the server, beside those that all have
	created atomic.Int64 // databases
}

// postgresUser is the superuser of the cluster. Connections from loopback are
// trusted: there is no password.
const postgresUser = "gateway"

// maintenanceDatabase is there from the beginning.
const maintenanceDatabase = "postgres"

func newPostgresCluster() (*postgresCluster, error) {
	return preparedPostgresCluster(func(*postgresCluster) error { return nil })
}

// preparedPostgresCluster has a cluster prepared, once it has a directory, and
// starts its server.
func preparedPostgresCluster(prepare func(*postgresCluster) error) (*postgresCluster, error) {
	install, err := findPostgres()
	if err != nil {
		return nil, err
	}
	// Not t.TempDir: its parent is closed to the user that the server runs as.
	dir, err := os.MkdirTemp("", "daemon-gateway-postgres-")
	if err != nil {
		return nil, err
	}
	c := &postgresCluster{install: install, dir: dir}
	if c.port, err = freePort(); err == nil {
		err = prepare(c)
	}
	if err == nil {
		c.process = process.New(c.config())
		err = c.initialize()
	}
	if err == nil {
		err = c.start()
	}
	if err != nil {
		c.remove()
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	return c, nil
}

func (c *postgresCluster) config() process.Config {
	args := []string{"-D", c.data(), "-p", strconv.Itoa(c.port)}
	for _, option := range append([]string{
		"listen_addresses=" + loopback, "unix_socket_directories=", "max_connections=200", "shared_buffers=64MB",
		// The data need not outlive a crash of the machine. They do outlive one of
		// the server, so synchronous_commit stays.
		"fsync=off", "full_page_writes=off",
	}, c.options...) {
		args = append(args, "-c", option)
	}
	return process.Config{
		Name: "postgres", Dir: c.dir, Program: filepath.Join(c.install.bin, "postgres"), Args: args,
		Env: c.install.environ(), WorkDir: c.dir, User: c.install.credential, Orphaned: syscall.SIGQUIT,
	}
}

func (c *postgresCluster) data() string { return filepath.Join(c.dir, "data") }

// initialize makes the data directory.
func (c *postgresCluster) initialize() error {
	if err := c.install.own(c.dir); err != nil {
		return err
	}
	archive, err := c.install.emptyData()
	if err != nil {
		return err
	}
	return c.install.unpack(archive, c.dir)
}

func (c *postgresCluster) start() error {
	return start(c.process, answers(c.url(maintenanceDatabase)))
}

// stop has the server and its sessions end at once, as in a crash, but for what
// it shares with them of the system's memory: it takes that along.
func (c *postgresCluster) stop() {
	if !c.process.Running() {
		return
	}
	c.process.Resume()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if _, err := c.process.End(ctx, syscall.SIGQUIT); err != nil {
		c.process.Kill()
	}
}

func (c *postgresCluster) remove() {
	if c.process != nil {
		c.stop()
	}
	_ = os.RemoveAll(c.dir)
}

func (c *postgresCluster) url(database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", postgresUser, address(c.port), database)
}

func (c *postgresCluster) createDatabase() (name string, err error) {
	name = fmt.Sprintf("test_%d", c.created.Add(1))
	if err := c.execute("create database " + name); err != nil {
		return "", fmt.Errorf("create a database for the test: %w", err)
	}
	return name, nil
}

func (c *postgresCluster) execute(sql string) error {
	return withConnection(c.url(maintenanceDatabase), func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

// answers asks whether the database of a URL can be used.
func answers(url string) func() error {
	return func() error {
		return withConnection(url, func(ctx context.Context, conn *pgx.Conn) error { return conn.Ping(ctx) })
	}
}

func withConnection(url string, use func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return use(ctx, conn)
}
