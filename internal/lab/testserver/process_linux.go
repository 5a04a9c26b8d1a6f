package testserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// endWithParent has the kernel end the child when we die, so that a test binary
// that ends in a panic or is killed leaves no server behind. The signal belongs
// to the thread that starts the child; the Go runtime keeps its threads.
func endWithParent(attributes *syscall.SysProcAttr, with syscall.Signal) {
	attributes.Pdeathsig = with
}

// awaitStopped waits until every thread of a process that was sent SIGSTOP stands
// still. On a busy machine the others run on until one of them gets to the signal.
func (p *process) awaitStopped() {
	const poll = time.Millisecond
	for p.atWork() {
		select {
		case <-p.done:
			return
		case <-time.After(poll):
		}
	}
}

func (p *process) atWork() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		// pid (name) state …, and the name may hold anything.
		if _, state, found := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " "); err == nil && found && !strings.HasPrefix(state, "T") {
			return true
		}
	}
	return err != nil
}
