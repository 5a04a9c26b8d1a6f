package jet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// recreateAfter is how long a stream that somebody has deleted is left alone. A
// NATS server takes a stream out of its list before it has removed it. A stream
// that is created in between may be half the old and half the new one: in one
// of 60 tries it could be asked about, took no event, and was gone when the
// server started again. It also gives whoever restores a backup a moment to
// begin.
const recreateAfter = 5 * time.Second

// absences are the streams that this node has found missing.
type absences struct {
	mu   sync.Mutex
	list map[string]absence
}

type absence struct{ since, seen time.Time }

// lasts notes that a stream is missing at that time, and reports whether it has
// been for long enough, whenever somebody looked.
func (a *absences) lasts(stream string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	noted, ok := a.list[stream]
	if !ok || now.Sub(noted.seen) > recreateAfter {
		noted.since = now // it may have been there in between
	}
	noted.seen = now
	a.list[stream] = noted
	return now.Sub(noted.since) >= recreateAfter
}

func (a *absences) end(stream string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.list, stream)
}

// Find returns a stream as its leader describes it. For one that is missing it
// returns ErrUnavailable until it may be created again, and from then on the
// error that says it is missing.
func (c *Client) Find(ctx context.Context, stream string) (jetstream.Stream, error) {
	found, err := c.Stream(ctx, stream)
	switch {
	case err == nil:
		c.absences.end(stream)
	case errors.Is(err, jetstream.ErrStreamNotFound) && !c.absences.lasts(stream, time.Now()):
		if c.rights == Use {
			return nil, fmt.Errorf("stream %s: %w", stream, ErrMissing)
		}
		return nil, fmt.Errorf("%w: stream %s is missing, and created again after %v", ErrUnavailable, stream, recreateAfter)
	}
	return found, err
}
