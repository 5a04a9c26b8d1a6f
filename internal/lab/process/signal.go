package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Kill ends the process without warning (SIGKILL), and all that it has started,
// and waits until they are gone.
func (p *Process) Kill() {
	if x := p.execution(); x != nil {
		x.move(killTree)
		<-x.ended
	}
}

// Pause stops the process in its tracks (SIGSTOP), and all that it has started,
// until Resume or Kill. It returns when they stand still, and fails if the
// process does not run.
func (p *Process) Pause() error {
	if x := p.execution(); x == nil || !x.move(pauseTree) || x.hasEnded() {
		return fmt.Errorf("pause %s: it does not run", p.Name())
	}
	return nil
}

// Resume lets a paused process go on (SIGCONT); any other is left alone.
func (p *Process) Resume() {
	if x := p.execution(); x != nil {
		x.move(resumeTree)
	}
}

// move does something to a process that has not ended, while nobody else does.
func (x *execution) move(do func(id int)) (done bool) {
	x.standing.Lock()
	defer x.standing.Unlock()
	if x.hasEnded() {
		return false
	}
	do(x.cmd.Process.Pid)
	return true
}

// Signal sends the process a signal. One that has ended takes none.
func (p *Process) Signal(s syscall.Signal) error {
	x := p.execution()
	if x == nil {
		return fmt.Errorf("signal %s: it was never started", p.Name())
	}
	if err := x.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name(), err)
	}
	return nil
}

// End asks the process to end, by the signal that it takes for that, and
// returns its exit code once it has; -1 if the signal ended it.
func (p *Process) End(ctx context.Context, how syscall.Signal) (code int, err error) {
	if err := p.Signal(how); err != nil {
		return 0, err
	}
	return p.Wait(ctx)
}

// Stop stops the process gracefully (SIGTERM) and waits for its end. It fails
// if the process exits with anything but 0, or ctx ends first. One that does
// not run is left alone.
func (p *Process) Stop(ctx context.Context) error {
	if !p.Running() {
		return nil
	}
	code, err := p.End(ctx, syscall.SIGTERM)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s was stopped and exited with code %d", p.Name(), code)
	}
	return err
}

// pauseTree has a process stand still, and all that it has started.
func pauseTree(id int) {
	stand(id)
	for _, child := range children(id) {
		pauseTree(child)
	}
}

func resumeTree(id int) {
	for _, child := range children(id) {
		resumeTree(child)
	}
	_ = syscall.Kill(id, syscall.SIGCONT)
}

// killTree kills what a process has started, and then the process, which stands
// still meanwhile: it starts nothing more, and reaps none of them, so that no
// other process can get the number of one of them.
func killTree(id int) {
	stand(id)
	for _, child := range children(id) {
		killTree(child)
	}
	if syscall.Kill(id, syscall.SIGKILL) == nil {
		await(func() bool { return isDead(id) })
	}
}

// stand stops a process and waits until all of it stands still: on a busy
// machine its threads run on until one of them gets to the signal. The signal
// is sent again and again: whoever lets it go on after a Stall takes back one
// that it has not got to.
func stand(id int) {
	await(func() bool { return syscall.Kill(id, syscall.SIGSTOP) != nil || standsStill(id) })
}

// await waits for what the system is about to do.
func await(condition func() bool) {
	const poll = time.Millisecond
	for !condition() {
		time.Sleep(poll)
	}
}
