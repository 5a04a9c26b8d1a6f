package process

import "time"

// Usage is what a process has used of the machine.
type Usage struct {
	// CPU is its time on processors since it was started, user and system.
	CPU time.Duration
	// Resident is the memory that it holds now, in bytes.
	Resident int64
}

// Usage asks the system what the running process uses.
func (p *Process) Usage() (Usage, error) { return usage(p.ID()) }
