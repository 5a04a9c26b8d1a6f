package bridge

import (
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// dropLog counts lost messages and says so from time to time. Its methods may
// be called concurrently.
type dropLog struct {
	metrics *metrics
	logger  *slog.Logger
	warn    rate.Sometimes
	unsaid  atomic.Int64
}

func newDropLog(m *metrics, logger *slog.Logger) *dropLog {
	return &dropLog{metrics: m, logger: logger, warn: rate.Sometimes{First: 1, Interval: 10 * time.Second}}
}

// overflow notes n messages that had to make room.
func (d *dropLog) overflow(n int) {
	if n == 0 {
		return
	}
	d.metrics.dropped.Add(float64(n))
	d.unsaid.Add(int64(n))
	d.warn.Do(func() {
		d.logger.Warn("the buffer is full and its oldest messages are dropped; gateway_bridge_dropped_total has the sum",
			"dropped", d.unsaid.Swap(0))
	})
}
