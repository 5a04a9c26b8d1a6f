package testserver

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// RedisServer is a redis-server process. It keeps its port over Stop and
// Start, and nothing else: it does not persist. Methods may be called at the
// same time.
type RedisServer struct {
	t      testing.TB
	binary string
	args   []string
	dir    string
	port   int
	// A command that every such server answers, and what only this one answers:
	// another may have taken the port.
	question, answer string

	mu      sync.Mutex
	process *process // nil while stopped
}

// Redis starts a redis-server. It fails the test, saying what to install, where
// there is none.
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	return redisWith(t, func(r *RedisServer) { r.args = []string{"--save", "", "--appendonly", "no"} })
}

// redisWith starts a redis-server; set gives it its arguments.
func redisWith(t testing.TB, set func(*RedisServer)) *RedisServer {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("this test needs redis-server, which is not in PATH: install it " +
			"(Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis)")
	}
	r := &RedisServer{t: t, binary: binary, dir: t.TempDir()}
	r.question, r.answer = "CONFIG GET dir", r.dir
	set(r)
	const attempts = 5
	for range attempts {
		r.port = freePort(t)
		if err = r.start(); err == nil {
			t.Cleanup(r.Stop)
			return r
		}
	}
	t.Fatalf("start redis-server: %v", err)
	return nil
}

// Addr is host:port.
func (r *RedisServer) Addr() string { return address(r.port) }

// URL is the redis:// URL of the server.
func (r *RedisServer) URL() string { return "redis://" + r.Addr() }

// Start starts the server again after Stop, empty, on the same port.
func (r *RedisServer) Start() {
	r.t.Helper()
	if err := r.start(); err != nil {
		r.t.Fatalf("start redis-server on port %d: %v", r.port, err)
	}
}

// Stop kills the server and waits until it is gone.
func (r *RedisServer) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil {
		r.process.kill()
		r.process = nil
	}
}

func (r *RedisServer) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil {
		return nil
	}
	p, err := startProcess(r.binary, append(slices.Clone(r.args), "--port", strconv.Itoa(r.port), "--bind", loopback, "--dir", r.dir)...)
	if err != nil {
		return err
	}
	if err := p.await(Patience, r.ping); err != nil {
		p.kill()
		return err
	}
	r.process = p
	return nil
}

// Freeze stops the server as a machine that is gone: what is sent to it is
// taken by the kernel, and nothing answers.
func (r *RedisServer) Freeze() { r.signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (r *RedisServer) Thaw() { r.signal(syscall.SIGCONT) }

func (r *RedisServer) signal(s os.Signal) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		r.t.Fatalf("redis-server on port %d does not run", r.port)
	}
	if err := r.process.cmd.Process.Signal(s); err != nil {
		r.t.Fatalf("signal redis-server on port %d: %v", r.port, err)
	}
}

// ping reports whether the server answers commands, and is the process that we
// started.
func (r *RedisServer) ping() error {
	conn, err := net.DialTimeout("tcp", r.Addr(), answerTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(answerTimeout))
	if _, err := fmt.Fprintf(conn, "%s\r\n", r.question); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if lines.Text() == r.answer {
			return nil
		}
	}
	return fmt.Errorf("no answer from redis-server on %s", r.Addr())
}

// process is a child process whose output is kept for messages of failure.
type process struct {
	cmd    *exec.Cmd
	output *lockedBuffer
	done   chan struct{} // closed when the process has ended
}

func startProcess(binary string, args ...string) (*process, error) {
	return startCommand(exec.Command(binary, args...))
}

func startCommand(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, output: &lockedBuffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	return p, nil
}

// await asks ready until it returns nil, the process ends, or the time is up.
func (p *process) await(timeout time.Duration, ready func() error) error {
	deadline := time.After(timeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended at its start; it wrote:\n%s", p.cmd.Path, p.output)
		case <-deadline:
			return fmt.Errorf("%s is not ready after %v: %w; it wrote:\n%s", p.cmd.Path, timeout, err, p.output)
		}
	}
}

func (p *process) kill() { p.signal(os.Kill) }

func (p *process) signal(s os.Signal) {
	_ = p.cmd.Process.Signal(s)
	<-p.done
}

// lockedBuffer keeps the last of what is written to it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	const most = 64 << 10
	if b.buf.Len() > most {
		b.buf.Reset()
	}
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
