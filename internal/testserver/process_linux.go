package testserver

import "syscall"

// endWithParent has the kernel end the child when we die, so that a test binary
// that ends in a panic or is killed leaves no server behind. The signal belongs
// to the thread that starts the child; the Go runtime keeps its threads.
func endWithParent(attributes *syscall.SysProcAttr, with syscall.Signal) {
	attributes.Pdeathsig = with
}
