//go:build !linux

package testserver

import "syscall"

// endWithParent does nothing where the kernel does not offer it.
func endWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// awaitStopped: only Linux says whether a process stands still.
func (p *process) awaitStopped() {}
