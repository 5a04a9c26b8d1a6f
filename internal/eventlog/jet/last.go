package jet

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// LastSubjects is how many subjects one question in bulk may name. With the
	// sentinel it stays below the 1,024 results that the server allows.
	LastSubjects = 1000
	// lastAnswerBytes ends an answer.
	lastAnswerBytes = 1 << 20
	// lastAttempts bounds how often an answer without any match is asked for
	// again after the sentinel was published (a replica may not have it yet).
	lastAttempts = 4
)

// LastQuery says what to ask of which stream.
type LastQuery struct {
	Stream string
	// Sentinel is a subject that always has a message, because an answer without
	// any match does not say up to where the replica looked; Missing publishes it.
	// Both are empty where nobody needs to know.
	Sentinel string
	Missing  func(context.Context) error
	KeepData bool
}

// LastFound is what one answer said of one subject.
type LastFound struct {
	Sequence uint64 // 0: no message
	// UpTo is up to where the answering replica looked.
	UpTo uint64
	// Data is nil for a deleted KV entry, and without KeepData.
	Data []byte
}

// Last asks any replica for the newest message of at most LastSubjects
// subjects, again and again until an answer was whole. An answer cut off by its
// size covers only what it holds: it says nothing of the other subjects, so
// these are asked for again, by name. To go on from the last sequence instead
// would be wrong: another replica, which lags, could answer and hide what the
// first one had and did not get to.
func (c *Client) Last(ctx context.Context, q LastQuery, subjects []string) (map[string]LastFound, error) {
	found := make(map[string]LastFound, len(subjects))
	open := make(map[string]struct{}, len(subjects))
	for _, s := range subjects {
		open[s] = struct{}{}
	}
	attempts := 0
	for {
		answer, err := c.lastOnce(ctx, q, open)
		if err != nil {
			return nil, err
		}
		if answer.none && q.Sentinel != "" {
			if attempts++; attempts == lastAttempts {
				return nil, fmt.Errorf("%w: the sentinel of %s was published but is not found", ErrUnavailable, q.Stream)
			}
			if err := q.Missing(ctx); err != nil {
				return nil, fmt.Errorf("publish a sentinel: %w", err)
			}
			continue
		}
		progress := q.take(answer, open, found)
		if answer.pending == 0 || len(open) == 0 {
			for s := range open {
				found[s] = LastFound{UpTo: answer.upTo}
			}
			return found, nil
		}
		if !progress {
			return nil, fmt.Errorf("%w: %s answered nothing of %d subjects", ErrUnavailable, q.Stream, len(open))
		}
	}
}

// take moves what the answer holds from open to found.
func (q LastQuery) take(answer directAnswer, open map[string]struct{}, found map[string]LastFound) (progress bool) {
	for _, m := range answer.messages {
		if _, asked := open[m.Subject]; !asked {
			continue
		}
		delete(open, m.Subject)
		progress = true
		f := LastFound{Sequence: m.Sequence, UpTo: answer.upTo}
		if q.KeepData && !isDeleteMarker(m.header) {
			f.Data = m.Data
		}
		found[m.Subject] = f
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

func (c *Client) lastOnce(ctx context.Context, q LastQuery, open map[string]struct{}) (directAnswer, error) {
	subjects := make([]string, 0, len(open)+1)
	if q.Sentinel != "" {
		subjects = append(subjects, q.Sentinel)
	}
	for s := range open {
		subjects = append(subjects, s)
	}
	return c.direct(ctx, c.lasts, q.Stream, directRequest{MultiLast: subjects, MaxBytes: lastAnswerBytes})
}
