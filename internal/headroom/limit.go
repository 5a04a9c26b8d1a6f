package headroom

import (
	"context"
	"math"
	"runtime/debug"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

const (
	// limitPercent of the container's memory are told to Go: the rest is for what
	// it does not count, such as the binary and the kernel's share.
	limitPercent = 90
	// limitInterval is how often the container's limit is read: a container may be
	// given another one while it runs.
	limitInterval = 10 * time.Second
)

// followLimit keeps Go's memory limit at limitPercent of the container's until
// ctx ends.
func followLimit(ctx context.Context) {
	l := limiter{read: memlimit.FromCgroup, set: debug.SetMemoryLimit}
	l.follow()
	lifecycle.Every(ctx, limitInterval, func(time.Time) { l.follow() })
}

// limiter tells Go of a limit that may change.
type limiter struct {
	read memlimit.Provider
	set  func(limit int64) int64
	told uint64 // the limit that was read last
}

// follow tells Go of the limit if it is another one than before. Where there is
// none, or none can be read, as outside of Linux, Go has none of ours: what it
// has is the metric go_gc_gomemlimit_bytes.
func (l *limiter) follow() {
	limit, err := l.read()
	if err != nil || limit == l.told || limit > math.MaxInt64 {
		return
	}
	l.told = limit
	l.set(int64(limit / 100 * limitPercent))
}
