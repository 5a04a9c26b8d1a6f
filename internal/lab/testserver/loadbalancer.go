package testserver

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// LoadBalancer is a haproxy or nginx process.
type LoadBalancer struct {
	// Address is where it listens (host:port).
	Address string
	// Dir is where it writes. Its path is short enough for sockets.
	Dir string

	process *process.Process
}

// HAProxy starts a haproxy, which ends with the test. configure returns its
// configuration, given an address for it to listen on and a directory to write
// to. It fails the test, saying what to install, where there is none.
func HAProxy(t testing.TB, configure func(*LoadBalancer) string) *LoadBalancer {
	t.Helper()
	return startLoadBalancer(t, "haproxy", configure, func(file string) []string { return []string{"-db", "-f", file} })
}

// Nginx is HAProxy for nginx. Its workers run as whoever runs the test.
func Nginx(t testing.TB, configure func(*LoadBalancer) string) *LoadBalancer {
	t.Helper()
	return startLoadBalancer(t, "nginx", configure, func(file string) []string {
		settings := fmt.Sprintf("daemon off; pid %s/pid;", filepath.Dir(file))
		if os.Geteuid() == 0 {
			settings += " user root;"
		}
		return []string{"-e", "stderr", "-c", file, "-g", settings}
	})
}

func startLoadBalancer(t testing.TB, name string, configure func(*LoadBalancer) string, args func(file string) []string) *LoadBalancer {
	t.Helper()
	program, err := process.Find(name, "apt-get install haproxy nginx libnginx-mod-stream", "brew install haproxy nginx")
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir, whose path is too long for a socket.
	dir, err := os.MkdirTemp("", "daemon-gateway-"+name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &LoadBalancer{Dir: dir, Address: address(Port(t))}
	file := filepath.Join(dir, name+".conf")
	if err := os.WriteFile(file, []byte(configure(b)), 0o600); err != nil {
		t.Fatal(err)
	}
	b.process = process.New(process.Config{Name: name, Dir: dir, Program: program, Args: args(file), Orphaned: syscall.SIGTERM})
	t.Cleanup(func() { b.end(t) })
	if err := b.start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	return b
}

func (b *LoadBalancer) start() error {
	return start(b.process, func() error {
		conn, err := net.DialTimeout("tcp", b.Address, answerTimeout)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
}

// end ends it at once, its workers included, and shows what it has written where
// the test has failed.
func (b *LoadBalancer) end(t testing.TB) {
	b.process.Kill()
	if !t.Failed() {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(b.Dir, "*.log"))
	for _, log := range logs {
		text, _ := os.ReadFile(log)
		lines := strings.Split(string(text), "\n")
		t.Logf("%s:\n%s", filepath.Base(log), strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}
