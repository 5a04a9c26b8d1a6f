package load

import (
	"syscall"
	"time"
)

// pause waits as exactly as the system does; time.Sleep rounds up to a
// millisecond where nothing else is to be done.
func pause(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // cut short by a signal: it is too early, and counted so
}
