package testserver

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PgBouncer starts a PgBouncer in transaction mode before the database, with
// poolSize connections to it, and returns the URL of the database through it.
// It ends with the test. It fails the test, saying what to install, where there
// is none.
func PgBouncer(t testing.TB, database *Database, poolSize int) string {
	t.Helper()
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		// Debian's place, which is not in everybody's PATH.
		binary, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		t.Fatalf("this test needs pgbouncer, which is not in PATH: install it " +
			"(Debian and Ubuntu: apt-get install pgbouncer; macOS: brew install pgbouncer)")
	}
	target, err := url.Parse(database.URL())
	if err != nil {
		t.Fatal(err)
	}
	credential, err := unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	const attempts = 5
	for range attempts {
		through := *target
		port := freePort(t)
		through.Host = address(port)
		var p *process
		if p, err = startPgBouncer(binary, pgBouncerConfig(t, target, port, poolSize), credential); err != nil {
			continue
		}
		t.Cleanup(func() { p.signal(syscall.SIGTERM) })
		if err = p.await(Patience, func() error {
			return withConnection(through.String(), func(ctx context.Context, conn *pgx.Conn) error { return conn.Ping(ctx) })
		}); err == nil {
			return through.String()
		}
	}
	t.Fatalf("start pgbouncer: %v", err)
	return ""
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

func startPgBouncer(binary, config string, credential *syscall.Credential) (*process, error) {
	cmd := exec.Command(binary, config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	endWithParent(cmd.SysProcAttr, syscall.SIGTERM)
	return startCommand(cmd)
}
