package testserver

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// PgBouncer starts a PgBouncer in transaction mode in front of the database,
// with poolSize connections to it, and returns the URL of the database through
// it. It ends with the test. It fails the test, saying what to install, where
// there is none.
func PgBouncer(t testing.TB, database *Database, poolSize int) string {
	t.Helper()
	program, err := process.Find("pgbouncer", "apt-get install pgbouncer", "brew install pgbouncer")
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(database.URL())
	if err != nil {
		t.Fatal(err)
	}
	credential, err := unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	port, through := Port(t), *target
	through.Host = address(port)
	p := process.New(process.Config{
		Name: "pgbouncer", Dir: t.TempDir(), Program: program, Args: []string{pgBouncerConfig(t, target, port, poolSize)},
		User: credential, Orphaned: syscall.SIGTERM,
	})
	t.Cleanup(p.Kill)
	if err := start(p, answers(through.String())); err != nil {
		t.Fatalf("start pgbouncer: %v", err)
	}
	return through.String()
}

// pgBouncerConfig writes the configuration where the unprivileged user reads it.
func pgBouncerConfig(t testing.TB, target *url.URL, port, poolSize int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "daemon-gateway-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	text := fmt.Sprintf(`[databases]
%s = host=%s port=%s user=%s
[pgbouncer]
listen_addr = %s
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = %d
`, strings.TrimPrefix(target.Path, "/"), target.Hostname(), target.Port(), target.User.Username(), loopback, port, poolSize)
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
