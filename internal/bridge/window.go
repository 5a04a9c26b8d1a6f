package bridge

import (
	"errors"
	"time"

	"github.com/neolith/daemon-gateway/internal/eventlog"
)

const (
	// leastWindow keeps a slow log from being left idle between two answers.
	leastWindow = 16
	// windowRest is how long a halved window is given to show in the answers: what
	// was under way before is given up by then.
	windowRest = 3 * time.Second
)

// publishWindow is how many messages are worked on at once: as many as the log
// answers for in time. A log that is slow, because its disks or the machine are,
// answers for none of many publishes within their time, though it stores them,
// and each that is repeated makes it slower. So the window halves when answers do
// not come, and grows by one for each window of answers that do.
type publishWindow struct {
	size     float64
	halvedAt time.Time
}

func (w *publishWindow) answered(now time.Time, err error) {
	switch {
	case err == nil:
		w.size = min(w.size+1/w.size, window)
	case errors.Is(err, eventlog.ErrUnavailable) && now.Sub(w.halvedAt) > windowRest:
		w.size, w.halvedAt = max(w.size/2, leastWindow), now
	}
}
