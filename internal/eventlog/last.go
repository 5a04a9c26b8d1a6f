package eventlog

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/eventlog/jet"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// lastSubjectBytes bounds a question in bulk, below any sane max_payload.
	lastSubjectBytes = 256 << 10
	// concurrentLast is how many parts of a question are asked side by side.
	concurrentLast = 8
)

// Stored is a message as LastMessages found it.
type Stored struct {
	// Sequence is the message's place in its stream: the revision of a KV entry.
	Sequence uint64
	// Data is the message's body; nil for a deleted KV entry.
	Data []byte
}

// LastSequences asks a replica for the newest event of each of the
// orchestrators, which must belong to partition p. The answer has one Last for
// each token, in their order; each says up to where it holds. Any number of
// tokens may be asked for; each request carries 1,000.
func (l *Log) LastSequences(ctx context.Context, p event.Partition, tokens []event.Token) ([]Last, error) {
	subjects := make([]string, len(tokens))
	for i, t := range tokens {
		subjects[i] = event.Subject(p, t)
	}
	sentinel := event.Subject(p, event.SentinelToken)
	result := make([]Last, len(tokens))
	err := l.eachChunk(ctx, subjects, func(ctx context.Context, first, end int) error {
		q := jet.LastQuery{Stream: event.StreamName(p), Sentinel: sentinel, Missing: func(ctx context.Context) error {
			return l.RenewSentinel(ctx, p)
		}}
		found, err := l.last(ctx, q, subjects[first:end])
		if err != nil {
			return fmt.Errorf("last events of partition %d: %w", p, err)
		}
		for i := first; i < end; i++ {
			f := found[subjects[i]]
			result[i] = Last{Sequence: f.Sequence, UpTo: f.UpTo}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// LastMessages asks a replica for the last message of each of the literal
// subjects of a stream, and returns those that exist. A replica may lag: what
// is absent or old here may exist or be newer, so whoever writes on the
// strength of it must name the sequence that it expects.
func (l *Log) LastMessages(ctx context.Context, stream string, subjects []string) (map[string]Stored, error) {
	chunks := make([]map[string]jet.LastFound, len(subjects))
	err := l.eachChunk(ctx, subjects, func(ctx context.Context, first, end int) error {
		found, err := l.last(ctx, jet.LastQuery{Stream: stream, KeepData: true}, subjects[first:end])
		if err != nil {
			return fmt.Errorf("last messages of %s: %w", stream, err)
		}
		chunks[first] = found
		return nil
	})
	if err != nil {
		return nil, err
	}
	result := make(map[string]Stored, len(subjects))
	for _, chunk := range chunks {
		for subject, f := range chunk {
			if f.Sequence != 0 {
				result[subject] = Stored{Sequence: f.Sequence, Data: f.Data}
			}
		}
	}
	return result, nil
}

// eachChunk calls f for each range of subjects that fits one request. The
// requests wait for their turn among all those of this connection.
func (l *Log) eachChunk(ctx context.Context, subjects []string, f func(ctx context.Context, first, end int) error) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(concurrentLast)
	for first := 0; first < len(subjects) && inner.Err() == nil; {
		end, bytes := first, 0
		for end < len(subjects) && end-first < jet.LastSubjects && bytes < lastSubjectBytes {
			bytes += len(subjects[end])
			end++
		}
		from := first
		group.Go(func() error { return f(inner, from, end) })
		first = end
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func (l *Log) last(ctx context.Context, q jet.LastQuery, subjects []string) (map[string]jet.LastFound, error) {
	start := time.Now()
	found, err := l.jet.Last(ctx, q, subjects)
	l.metrics.observe(opLast, start, err)
	return found, err
}
