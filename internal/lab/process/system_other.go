//go:build !linux

package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// endWithParent does nothing where the kernel does not offer it.
func endWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// children lists what a process has started and what has not been reaped. The
// list is complete while the process stands still.
func children(id int) (ids []int) {
	processes(func(process, parent int, _ string) {
		if parent == id {
			ids = append(ids, process)
		}
	})
	return ids
}

// standsStill reports whether a process does not run: it is stopped (T) or dead.
func standsStill(id int) bool { return strings.Trim(state(id), "TZ") == "" }

// isPaused reports whether a process has been stopped.
func isPaused(id int) bool { return state(id) == "T" }

// isDead reports whether a process is gone, or waits for nothing but to be
// reaped.
func isDead(id int) bool { return strings.Trim(state(id), "Z") == "" }

// state is a letter, or nothing if the process is gone.
func state(id int) (letter string) {
	processes(func(process, _ int, state string) {
		if process == id {
			letter = state[:1]
		}
	})
	return letter
}

// processes visits all processes there are.
func processes(visit func(id, parent int, state string)) {
	text, _ := exec.Command("ps", "-A", "-o", "pid=,ppid=,state=").Output()
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		var id, parent int
		var state string
		if _, err := fmt.Sscan(lines.Text(), &id, &parent, &state); err == nil {
			visit(id, parent, state)
		}
	}
}

// usage is known on Linux alone.
func usage(int) (Usage, error) { return Usage{}, errors.ErrUnsupported }
