package eventlog

import (
	"context"
	"fmt"
	"strings"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// defaultFollowBatch is how many messages one pull asks for, and so how many
// wait in memory for a slow handler.
const defaultFollowBatch = 256

// FollowOption changes how a partition is followed.
type FollowOption func(*jet.Following)

// PullBatch sets how many messages are asked for at once.
func PullBatch(n int) FollowOption { return func(f *jet.Following) { f.Batch = max(n, 1) } }

// Follow calls handle for each message of the partition from sequence from on,
// sentinels included, in the order of the log and without a gap: what lies
// between two sequences that are handed over is no longer in the log. Then it
// waits for what comes. It returns nil soon after ctx ends; any error means that
// it must be called again, from the sequence after the last one handled, and
// after a Refresh. Handle may block; the rest waits in the log.
func (l *Log) Follow(ctx context.Context, p event.Partition, from uint64, handle func(Message) error, options ...FollowOption) error {
	what := jet.Following{Stream: event.StreamName(p), From: from, Name: "router-", Batch: defaultFollowBatch}
	what.Handle = func(m jet.Message) error {
		token := event.Token(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
		return handle(Message{Token: token, Sequence: m.Sequence, Stored: m.Stored, Body: m.Data, Trace: l.traceOf(m)})
	}
	for _, o := range options {
		o(&what)
	}
	l.metrics.following.Inc()
	defer l.metrics.following.Dec()
	cause, err := l.jet.Follow(ctx, what)
	if ctx.Err() != nil {
		return nil
	}
	l.metrics.restarts.Of(cause).Inc()
	return fmt.Errorf("follow partition %d: %s: %w", p, cause, err)
}
