package cluster

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
)

// Process is a program that can be started again and again. Its output is
// appended to one file over all starts. Methods may be called at the same time.
type Process struct {
	name   string
	prefix []string // see Place.Command
	args   []string
	env    []string
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
}

func newProcess(name, dir string, place Place, program string, args, env []string) *Process {
	return &Process{name: name, prefix: place.Command, program: program, args: args, env: env, log: filepath.Join(dir, name+".log")}
}

// Name is the process's name within its cluster, such as "edge-2".
func (p *Process) Name() string { return p.name }

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
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	// The child has its own descriptor once it is started.
	defer func() { _ = out.Close() }()
	command := slices.Concat(p.prefix, []string{p.program}, p.args)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, out, out
	endWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
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

// Kill ends the process without warning (SIGKILL) and waits for its end.
func (p *Process) Kill() {
	x := p.execution()
	if x == nil {
		return
	}
	_ = x.cmd.Process.Kill()
	<-x.ended
}

// Terminate asks the process to end (SIGTERM) and does not wait; see Ended.
func (p *Process) Terminate() error { return p.signal(syscall.SIGTERM) }

// Pause stops the process in its tracks (SIGSTOP) until Resume or Kill.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on (SIGCONT).
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	x := p.execution()
	if x == nil {
		return fmt.Errorf("signal %s: it was never started", p.name)
	}
	if err := x.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// Stop ends the process in order (SIGTERM) and waits for its end. It fails if
// the process exits with anything but 0, or ctx ends first.
func (p *Process) Stop(ctx context.Context) error {
	if !p.Running() {
		return nil
	}
	if err := p.Terminate(); err != nil {
		return err
	}
	code, err := p.Wait(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s was stopped and exited with code %d", p.name, code)
	}
	return err
}

// Wait returns the exit code of the process, as last started, once it has
// ended; -1 if a signal ended it.
func (p *Process) Wait(ctx context.Context) (int, error) {
	x := p.execution()
	if x == nil {
		return 0, fmt.Errorf("wait for %s: it was never started", p.name)
	}
	select {
	case <-x.ended:
		return x.code, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s has not ended: %w", p.name, context.Cause(ctx))
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
