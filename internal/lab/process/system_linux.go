package process

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endWithParent has the kernel end the child when we die, so that a test binary
// that ends in a panic or is killed leaves nothing behind. The signal belongs to
// the thread that starts the child; the Go runtime keeps its threads.
func endWithParent(attributes *syscall.SysProcAttr, with syscall.Signal) {
	attributes.Pdeathsig = cmp.Or(with, syscall.SIGKILL)
}

// children lists what a process has started and what has not been reaped. The
// list is complete while the process stands still.
func children(id int) (ids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", id))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				ids = append(ids, child)
			}
		}
	}
	return ids
}

// standsStill reports whether no thread of a process runs: each is stopped (T),
// traced (t) or dead.
func standsStill(id int) bool { return len(bytes.Trim(threads(id), "TtZX")) == 0 }

// isPaused reports whether a process has been stopped, or is about to be: some of
// its threads may not have got to the signal.
func isPaused(id int) bool { return bytes.ContainsRune(threads(id), 'T') }

// isDead reports whether a process is gone, or waits for nothing but to be
// reaped.
func isDead(id int) bool { return len(bytes.Trim(threads(id), "ZX")) == 0 }

// threads returns the state of each thread of a process, a letter each; none if
// it is gone.
func threads(id int) (states []byte) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", id))
	for _, file := range files {
		// pid (name) state …, and the name may hold anything.
		text, _ := os.ReadFile(file)
		if _, rest, found := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte(" ")); found {
			states = append(states, rest[0])
		}
	}
	return states
}

// clockTick is USER_HZ, which is 100 on all that Go runs on.
const clockTick = time.Second / 100

// usage reads /proc.
func usage(id int) (u Usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return u, err
	}
	memory, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", id))
	if err != nil {
		return u, err
	}
	// pid (name) state …, and the name may hold anything; utime and stime are the
	// 14th and 15th. Of the memory the second number is what is resident, in pages.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	pages := strings.Fields(string(memory))
	if len(fields) < 13 || len(pages) < 2 {
		return u, fmt.Errorf("process %d: /proc says %q and %q", id, stat, memory)
	}
	var numbers [3]int64
	for i, text := range []string{fields[11], fields[12], pages[1]} {
		if numbers[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return u, err
		}
	}
	return Usage{CPU: time.Duration(numbers[0]+numbers[1]) * clockTick, Resident: numbers[2] * int64(os.Getpagesize())}, nil
}
