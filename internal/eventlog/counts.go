package eventlog

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// Counts asks the leader of a partition how many events it holds of each
// orchestrator. With 1,000,000 of these that is work of a second or so for it.
func (l *Log) Counts(ctx context.Context, p event.Partition) (map[event.Token]uint64, error) {
	start := time.Now()
	all := event.Subject(p, "*")
	var info *jetstream.StreamInfo
	err := l.jet.Bounded(ctx, setupTimeout, func(ctx context.Context) error {
		stream, err := l.jet.Stream(ctx, event.StreamName(p))
		if err == nil {
			info, err = stream.Info(ctx, jetstream.WithSubjectFilter(all))
		}
		return err
	})
	l.metrics.observe(opInfo, start, err)
	if err != nil {
		return nil, fmt.Errorf("count the events of partition %d: %w", p, err)
	}
	counts := make(map[event.Token]uint64, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		if token := event.Token(strings.TrimPrefix(subject, strings.TrimSuffix(all, "*"))); token != event.SentinelToken {
			counts[token] = n
		}
	}
	return counts, nil
}
