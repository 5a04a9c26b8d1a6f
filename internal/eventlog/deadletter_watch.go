package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/metric"
)

const (
	deadletterLook = 30 * time.Second
	// deadletterTold is how often the log says that dead letters are dropped.
	deadletterTold = 10 * time.Minute
)

// DeadLetterWatch looks how full the dead letters are, and whether they drop what
// should be kept: a full stream drops its oldest without a word to anybody. Any
// number of nodes do so at once, and each sees all of it. Its methods must not be
// called at the same time.
type DeadLetterWatch struct {
	log    *Log
	before *jetstream.StreamInfo // at the last look; nil: there was none

	dropped      prometheus.Counter
	bytes, limit prometheus.Gauge
	say          rate.Sometimes
}

// NewDeadLetterWatch returns the watch of a node.
func NewDeadLetterWatch(log *Log, reg prometheus.Registerer) *DeadLetterWatch {
	return &DeadLetterWatch{
		log: log,
		dropped: metric.Counter(reg, "gateway_deadletters_dropped_total",
			"Dead letters that were dropped before DEADLETTER_RETENTION, because all of them take too much room; each router sees all."),
		bytes: metric.Gauge(reg, "gateway_deadletters_bytes", "Size of the dead letters."),
		limit: metric.Gauge(reg, "gateway_deadletters_limit_bytes", "Size at which the dead letters drop their oldest."),
		say:   rate.Sometimes{First: 1, Interval: deadletterTold},
	}
}

// Run looks again and again, until ctx ends.
func (w *DeadLetterWatch) Run(ctx context.Context) error {
	lifecycle.Every(ctx, deadletterLook, func(time.Time) {
		if _, err := w.Look(ctx); err != nil {
			w.log.logger.Debug("how full the dead letters are is not known now", "error", err)
		}
	})
	return nil
}

// Look returns how many dead letters were dropped since the last look, and says so
// in log and metrics.
func (w *DeadLetterWatch) Look(ctx context.Context) (dropped uint64, err error) {
	var now *jetstream.StreamInfo
	start := time.Now()
	err = w.log.jet.Request(ctx, func(ctx context.Context) error {
		stream, err := w.log.jet.Stream(ctx, DeadletterStream)
		if err == nil {
			now = stream.CachedInfo()
		}
		return err
	})
	w.log.metrics.observe(opInfo, start, err)
	if err != nil {
		return 0, fmt.Errorf("state of the dead letters: %w", err)
	}
	w.bytes.Set(float64(now.State.Bytes))
	w.limit.Set(float64(max(0, now.Config.MaxBytes)))
	if w.before != nil {
		dropped = droppedBetween(w.before, now, uint64(w.log.jet.NC.MaxPayload()))
	}
	w.before = now
	if dropped > 0 {
		w.dropped.Add(float64(dropped))
		w.say.Do(func() {
			w.log.logger.Error("the dead letters are full, and drop their oldest before its time",
				"dropped", dropped, "kept", now.State.Msgs, "oldest", now.State.FirstTime)
		})
	}
	return dropped, nil
}

// droppedBetween returns how many messages a stream has dropped for its size between
// two looks. What has gone with its age is none of these, and neither is what
// somebody has removed: then there is room for another message.
func droppedBetween(before, now *jetstream.StreamInfo, largest uint64) uint64 {
	was, is := before.State, now.State
	limit := uint64(max(0, now.Config.MaxBytes))
	first := jet.Holding{First: jet.Place{Sequence: was.FirstSeq, Stored: was.FirstTime}}
	switch {
	case before.Created != now.Created, is.LastSeq < was.LastSeq: // made anew
		return 0
	case is.FirstSeq == was.FirstSeq, was.Msgs == 0, first.Expires(now.Config.MaxAge):
		return 0
	case limit == 0, is.Bytes+min(largest, limit/2) < limit:
		return 0
	}
	return less(was.Msgs+is.LastSeq-was.LastSeq, is.Msgs)
}
