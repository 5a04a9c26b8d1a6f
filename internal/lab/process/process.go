// Package process runs programs as child processes that tests and experiments
// start, kill, pause, stop and start again, and with it the servers that a
// gateway needs, NATS and Redis. It knows nothing of the gateway, and nothing
// of package testing.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Config says what a process is.
type Config struct {
	// Name is what reports call it, such as "edge-2".
	Name string
	// Dir is an existing directory for the file with all that it writes.
	Dir string
	// Prefix is put before the command to have it run in another place. What is
	// in it must become the command, as the same process.
	Prefix  []string
	Program string
	Args    []string
	// Env is its whole environment; nil: ours.
	Env []string
	// WorkDir is where it runs; empty: where we do.
	WorkDir string
	// User is whom it runs as; nil: as us.
	User *syscall.Credential
	// Orphaned is the signal that ends it when we are gone, where the system
	// offers that; zero: SIGKILL. A server with children of its own needs one
	// upon which it ends these, too.
	Orphaned syscall.Signal
}

// Process is a program that can be started again and again. Its output is
// appended to one file over all starts. Methods may be called at the same time.
type Process struct {
	config Config
	log    string // file

	mu      sync.Mutex
	program string
	current *execution // nil before the first start
}

// execution is one run of a process.
type execution struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	code  int           // exit code, -1 for a signal; read after ended

	// standing is held while somebody waits for the process to stand still, so
	// that nobody lets it go on meanwhile.
	standing sync.Mutex
}

// New returns a process that does not run yet.
func New(cfg Config) *Process {
	return &Process{config: cfg, program: cfg.Program, log: filepath.Join(cfg.Dir, cfg.Name+".log")}
}

// Name is what reports call the process.
func (p *Process) Name() string { return p.config.Name }

// LogFile holds all that the process has written.
func (p *Process) LogFile() string { return p.log }

// Replace has the process run another program from its next start on, such as
// another version.
func (p *Process) Replace(program string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.program = program
}

// Start starts the process; a running one is left alone.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && !p.current.hasEnded() {
		return nil
	}
	// A file and not a pipe: what children of the process have open keeps nobody
	// waiting for its end.
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name(), err)
	}
	// The process has its own descriptor once it is started.
	defer func() { _ = out.Close() }()
	command := slices.Concat(p.config.Prefix, []string{p.program}, p.config.Args)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.config.Env, p.config.WorkDir, out, out
	// A group of its own: when the last one outside of a group that cares for it
	// ends, the system hangs up on the group and has whoever is paused there go on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.config.User, Setpgid: true}
	endWithParent(cmd.SysProcAttr, p.config.Orphaned)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name(), err)
	}
	x := &execution{cmd: cmd, ended: make(chan struct{})}
	go x.wait()
	p.current = x
	return nil
}

func (x *execution) wait() {
	_ = x.cmd.Wait()
	x.code = x.cmd.ProcessState.ExitCode()
	close(x.ended)
}

func (x *execution) hasEnded() bool {
	select {
	case <-x.ended:
		return true
	default:
		return false
	}
}

// Running reports whether the process was started and has not ended since.
func (p *Process) Running() bool {
	x := p.execution()
	return x != nil && !x.hasEnded()
}

// ID is the process's number in the system, as last started; 0 before the first start.
func (p *Process) ID() int {
	if x := p.execution(); x != nil {
		return x.cmd.Process.Pid
	}
	return 0
}

// Ended is closed when the process, as last started, has ended. It is nil
// before the first start.
func (p *Process) Ended() <-chan struct{} {
	if x := p.execution(); x != nil {
		return x.ended
	}
	return nil
}

func (p *Process) execution() *execution {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

// Wait returns the exit code of the process, as last started, once it has
// ended; -1 if a signal ended it.
func (p *Process) Wait(ctx context.Context) (code int, err error) {
	x := p.execution()
	if x == nil {
		return 0, fmt.Errorf("wait for %s: it was never started", p.Name())
	}
	select {
	case <-x.ended:
		return x.code, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s has not ended: %w", p.Name(), context.Cause(ctx))
	}
}

// Pause is how long whoever waits for a process lets it work, after a question
// that took so long: on a busy machine the answers would be all that it does.
func Pause(took time.Duration) time.Duration {
	const shortest, longest, share = 20 * time.Millisecond, time.Second, 5
	return min(max(shortest, share*took), longest)
}

// Await asks ready until it returns nil. It fails when ctx ends, with what was
// said last, or at once when the process has ended.
func (p *Process) Await(ctx context.Context, ready func() error) error {
	for {
		asked := time.Now()
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(Pause(time.Since(asked))):
		case <-p.Ended():
			return fmt.Errorf("%s has ended; it wrote:\n%s", p.Name(), p.Tail(20))
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// Tail returns the last lines that the process has written.
func (p *Process) Tail(lines int) string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	text = bytes.TrimRight(text, "\n")
	all := bytes.Split(text, []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
