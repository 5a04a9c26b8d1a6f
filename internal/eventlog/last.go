package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// lastSubjects is how many subjects one request asks for. With the sentinel
	// it stays below the 1,024 results that the server allows.
	lastSubjects = 1000
	// lastSubjectBytes bounds the request itself, below any sane max_payload.
	lastSubjectBytes = 256 << 10
	// lastAnswerBytes ends an answer; concurrentLast answers may be under way on
	// the connection, which together stay far from where the server cuts it.
	lastAnswerBytes = 1 << 20
	concurrentLast  = 8
	// lastAttempts bounds how often an answer without any match is asked for
	// again after the sentinel was published (a replica may not have it yet).
	lastAttempts = 4
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
		q := lastQuery{stream: event.StreamName(p), sentinel: sentinel, missing: func(ctx context.Context) error {
			return l.RenewSentinel(ctx, p)
		}}
		found, err := l.last(ctx, q, subjects[first:end])
		if err != nil {
			return fmt.Errorf("last events of partition %d: %w", p, err)
		}
		for i := first; i < end; i++ {
			f := found[subjects[i]]
			result[i] = Last{Sequence: f.sequence, UpTo: f.upTo}
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
	chunks := make([]map[string]lastFound, len(subjects))
	err := l.eachChunk(ctx, subjects, func(ctx context.Context, first, end int) error {
		found, err := l.last(ctx, lastQuery{stream: stream, keepData: true}, subjects[first:end])
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
			if f.sequence != 0 {
				result[subject] = Stored{Sequence: f.sequence, Data: f.data}
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
		for end < len(subjects) && end-first < lastSubjects && bytes < lastSubjectBytes {
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

// lastQuery says what to ask of which stream.
type lastQuery struct {
	stream string
	// sentinel is a subject that always has a message, because an answer without
	// any match does not say up to where the replica looked; missing mends it.
	// Both are empty where nobody needs to know.
	sentinel string
	missing  func(context.Context) error
	keepData bool
}

// lastFound is what one answer said of one subject.
type lastFound struct {
	sequence uint64 // 0: no message
	upTo     uint64
	data     []byte
}

// last asks for at most lastSubjects subjects, again and again until an answer
// was whole. An answer cut off by its size covers only what it holds: it says
// nothing of the other subjects, so these are asked for anew, by name. To go on
// from the last sequence instead would be wrong: another replica, which lags,
// could answer and hide what the first one had and did not get to.
func (l *Log) last(ctx context.Context, q lastQuery, subjects []string) (map[string]lastFound, error) {
	start := time.Now()
	found, err := l.lastWhole(ctx, q, subjects)
	err = classify(err)
	l.metrics.observe(opLast, start, err)
	return found, err
}

func (l *Log) lastWhole(ctx context.Context, q lastQuery, subjects []string) (map[string]lastFound, error) {
	found := make(map[string]lastFound, len(subjects))
	open := make(map[string]struct{}, len(subjects))
	for _, s := range subjects {
		open[s] = struct{}{}
	}
	attempts := 0
	for {
		answer, err := l.lastOnce(ctx, q, open)
		if err != nil {
			return nil, err
		}
		if answer.none && q.sentinel != "" {
			if attempts++; attempts == lastAttempts {
				return nil, fmt.Errorf("%w: the sentinel of %s was published but is not found", ErrUnavailable, q.stream)
			}
			if err := q.missing(ctx); err != nil {
				return nil, fmt.Errorf("publish a sentinel: %w", err)
			}
			continue
		}
		progress := q.take(answer, open, found)
		if answer.pending == 0 || len(open) == 0 {
			for s := range open {
				found[s] = lastFound{upTo: answer.upTo}
			}
			return found, nil
		}
		if !progress {
			return nil, fmt.Errorf("%w: %s answered nothing of %d subjects", ErrUnavailable, q.stream, len(open))
		}
	}
}

// take moves what the answer holds from open to found.
func (q lastQuery) take(answer directAnswer, open map[string]struct{}, found map[string]lastFound) (progress bool) {
	for _, m := range answer.messages {
		if _, asked := open[m.subject]; !asked {
			continue
		}
		delete(open, m.subject)
		progress = true
		f := lastFound{sequence: m.sequence, upTo: answer.upTo}
		if q.keepData && !isDeleteMarker(m.header) {
			f.data = m.data
		}
		found[m.subject] = f
	}
	return progress
}

func isDeleteMarker(h nats.Header) bool {
	switch lastHeader(h, "KV-Operation") {
	case "DEL", "PURGE":
		return true
	}
	return lastHeader(h, jetstream.MarkerReasonHeader) != ""
}

func (l *Log) lastOnce(ctx context.Context, q lastQuery, open map[string]struct{}) (directAnswer, error) {
	ask := make([]string, 0, len(open)+1)
	if q.sentinel != "" {
		ask = append(ask, q.sentinel)
	}
	for s := range open {
		ask = append(ask, s)
	}
	release, err := acquire(ctx, l.lasts)
	if err != nil {
		return directAnswer{}, err
	}
	defer release()
	return l.direct(ctx, q.stream, directRequest{MultiLast: ask, MaxBytes: lastAnswerBytes})
}

// acquire takes one of the places of slots, and returns how to give it back.
func acquire(ctx context.Context, slots chan struct{}) (release func(), err error) {
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
