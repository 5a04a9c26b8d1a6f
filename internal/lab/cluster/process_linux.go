package cluster

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill the child when we die, so that a test
// binary that ends in a panic or is killed leaves no cluster behind. The signal
// belongs to the thread that starts the child; the Go runtime keeps its threads.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
