package testserver

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// LoadBalancer is a haproxy or nginx process.
type LoadBalancer struct {
	// Address is where it listens (host:port).
	Address string
	// Dir is where it writes. Its path is short enough for sockets.
	Dir string

	name    string
	process *process
}

// HAProxy starts a haproxy, which ends with the test. configure returns its
// configuration, given an address for it to listen on and a directory to write
// to. It fails the test, saying what to install, where there is none.
func HAProxy(t testing.TB, configure func(*LoadBalancer) string) *LoadBalancer {
	t.Helper()
	return startLoadBalancer(t, "haproxy", configure, func(binary, file string) *exec.Cmd {
		return exec.Command(binary, "-db", "-f", file)
	})
}

// Nginx is HAProxy for nginx. Its workers run as whoever runs the test.
func Nginx(t testing.TB, configure func(*LoadBalancer) string) *LoadBalancer {
	t.Helper()
	return startLoadBalancer(t, "nginx", configure, func(binary, file string) *exec.Cmd {
		settings := fmt.Sprintf("daemon off; pid %s/pid;", filepath.Dir(file))
		if os.Geteuid() == 0 {
			settings += " user root;"
		}
		return exec.Command(binary, "-e", "stderr", "-c", file, "-g", settings)
	})
}

func startLoadBalancer(t testing.TB, name string, configure func(*LoadBalancer) string, command func(binary, file string) *exec.Cmd) *LoadBalancer {
	t.Helper()
	binary, err := findDaemon(name)
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir, whose path is too long for a socket.
	dir, err := os.MkdirTemp("", "daemon-gateway-"+name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &LoadBalancer{Dir: dir, name: name}
	const attempts = 5
	for range attempts {
		b.Address = address(freePort(t))
		file := filepath.Join(dir, name+".conf")
		if err = os.WriteFile(file, []byte(configure(b)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err = b.start(command(binary, file)); err == nil {
			t.Cleanup(func() { b.stop(t) })
			return b
		}
	}
	t.Fatalf("start %s: %v", name, err)
	return nil
}

// findDaemon looks in Debian's place too, which is not in everybody's PATH.
func findDaemon(name string) (binary string, err error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if binary, err = exec.LookPath(candidate); err == nil {
			return binary, nil
		}
	}
	return "", fmt.Errorf("this test needs %s, which is not in PATH: install it "+
		"(Debian and Ubuntu: apt-get install haproxy nginx libnginx-mod-stream; macOS: brew install haproxy nginx)", name)
}

func (b *LoadBalancer) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	endWithParent(cmd.SysProcAttr, syscall.SIGTERM)
	p, err := startCommand(cmd)
	if err != nil {
		return err
	}
	if err := p.await(Patience, func() error {
		conn, err := net.DialTimeout("tcp", b.Address, answerTimeout)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}); err != nil {
		p.signal(syscall.SIGTERM)
		return err
	}
	b.process = p
	return nil
}

// stop ends it at once, its workers included, and shows what it has written
// where the test has failed.
func (b *LoadBalancer) stop(t testing.TB) {
	b.process.signal(syscall.SIGTERM)
	if !t.Failed() {
		return
	}
	t.Logf("%s wrote:\n%s", b.name, b.process.output)
	logs, _ := filepath.Glob(filepath.Join(b.Dir, "*.log"))
	for _, log := range logs {
		text, _ := os.ReadFile(log)
		lines := strings.Split(string(text), "\n")
		t.Logf("%s:\n%s", filepath.Base(log), strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}
