package cursor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// saveInterval is how often remembered entries are written: what an edge
	// that crashes forgets costs duplicates, not events.
	saveInterval = time.Second
	// writeTimeout bounds one write.
	writeTimeout = 5 * time.Second
	// maxWriting bounds the writes under way at once.
	maxWriting = 512
)

// Store keeps the records of all orchestrators in JetStream, one KV bucket for
// each partition. Several nodes may write the same record: each write names
// the revision that it was made from, and whoever was too late reads again and
// repeats its own part. All methods may be called at the same time.
type Store struct {
	js      jetstream.JetStream
	logger  *slog.Logger
	metrics *metrics
	now     func() time.Time
	find    func(event.Token) event.Partition

	partitions []*partition
	writing    chan struct{} // a place for each write under way
}

// NewStore returns a store on the buckets that log has opened. It starts
// nothing: entries are written while Run runs.
func NewStore(log *eventlog.Log, js jetstream.JetStream, logger *slog.Logger, reg prometheus.Registerer) *Store {
	s := &Store{
		js: js, logger: logger.With("component", "cursor"), now: time.Now, find: log.Partition,
		writing: make(chan struct{}, maxWriting),
	}
	s.metrics = newMetrics(reg, func() float64 { return float64(s.dirty()) })
	for p := range log.Config().Partitions {
		stream := eventlog.BucketStream(eventlog.CursorBucket(event.Partition(p)))
		s.partitions = append(s.partitions, newPartition(event.Partition(p),
			func(ctx context.Context, subjects []string) (map[string]eventlog.Stored, error) {
				found, err := log.LastMessages(ctx, stream, subjects)
				s.metrics.read(err)
				return found, err
			}))
	}
	return s
}

func (s *Store) partition(token event.Token) *partition { return s.partitions[s.find(token)] }

// Begin reads the orchestrator's record (together with other callers), applies
// what this node has saved and not yet written, lets decide change it (see
// Start), and writes the result. If another node wrote in between, all of that
// is repeated: decide may be called several times and must depend on nothing
// but its argument. The record that holds is returned.
//
// While NATS does not answer, Begin tries again until ctx ends; its error then
// wraps that of ctx and what went wrong. A write may have been stored though
// Begin failed: the next Begin then finds the entry. An unchanged record is
// returned as read, from a replica that may lag.
func (s *Store) Begin(ctx context.Context, token event.Token, decide func(Record) (next Record, changed bool)) (Record, error) {
	start := time.Now()
	p := s.partition(token)
	k, err := p.acquire(ctx, token)
	if err != nil {
		return Record{}, fmt.Errorf("begin from the cursors of %s: %w", token, err)
	}
	defer p.release(token, k)
	p.keep(k)
	var wait backoff
	for {
		k.known = false
		var rec Record
		rec, err = s.decide(ctx, p, token, k, decide)
		if err == nil {
			s.metrics.began(start)
			return rec, nil
		}
		if isFinal(err) {
			break
		}
		if end := wait.sleep(ctx, isConflict(err)); end != nil {
			err = errors.Join(end, err)
			break
		}
	}
	return Record{}, fmt.Errorf("begin from the cursors of %s: %w", token, err)
}

// decide is one attempt of Begin.
func (s *Store) decide(ctx context.Context, p *partition, token event.Token, k *key, decide func(Record) (Record, bool)) (Record, error) {
	read, err := s.load(ctx, p, token, k)
	if err != nil {
		return Record{}, err
	}
	own := p.take(k)
	base := own.reapply(read, defaultLimits)
	next, changed := decide(base)
	if !changed {
		p.putBack(k, own)
		return base, nil
	}
	if err := s.write(ctx, p, token, k, next); err != nil {
		p.putBack(k, own)
		return Record{}, err
	}
	p.stored(token, k)
	return next, nil
}

// Save remembers where a daemon stands and returns at once; it is written
// within a second while Run runs, or by Flush. It never lowers a floor of the
// same epoch, here or in the store. An entry of a newer epoch than the
// orchestrator's replaces, one of an older epoch is ignored. Entry.Written is
// set here. The entry's slices must not be modified afterwards.
func (s *Store) Save(token event.Token, epoch eventlog.Epoch, daemon protocol.DaemonID, e Entry) {
	e.Written = written(s.now())
	s.partition(token).save(token, epoch, daemon, e)
}

// Forget lets go of what is kept of an orchestrator that has no connection
// here any more; what is unsaved is still written first.
func (s *Store) Forget(token event.Token) { s.partition(token).forget(token) }

func (s *Store) dirty() int {
	n := 0
	for _, p := range s.partitions {
		n += p.countDirty()
	}
	return n
}

// load returns the record, from memory if it is known, else from the store.
func (s *Store) load(ctx context.Context, p *partition, token event.Token, k *key) (Record, error) {
	if !k.known {
		stored, _, err := p.reads.read(ctx, p.subject(token))
		if err != nil {
			return Record{}, fmt.Errorf("read: %w", err)
		}
		k.known, k.revision, k.stored = true, stored.Sequence, stored.Data
	}
	rec, err := Decode(k.stored)
	if errors.Is(err, ErrMalformed) {
		s.metrics.malformed.Inc()
		s.logger.Error("cursors cannot be read, daemons start from the oldest event", "orchestrator", token, "error", err)
		return unreadable(s.now()), nil
	}
	return rec, err
}

// unreadable stands for a record of which nothing is known: any daemon may
// have been anywhere, and may have wanted anything (invariant 1).
func unreadable(now time.Time) Record {
	return Record{Daemons: map[protocol.DaemonID]Entry{Remainder: {
		Subscriptions: []protocol.Subscription{{Pattern: protocol.AllEvents}}, Written: written(now),
	}}}
}

// write stores the record if the store still has k.revision. It waits for the
// answer in the caller's goroutine, of which there are many side by side: the
// library's futures would stay behind when a caller gives up.
func (s *Store) write(ctx context.Context, p *partition, token event.Token, k *key, rec Record) error {
	data, err := rec.Encode()
	if err != nil {
		return err
	}
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.writing }()
	k.known = false // until the answer says so, whatever it is
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	ack, err := s.js.Publish(ctx, p.subject(token), data, jetstream.WithExpectLastSequencePerSubject(k.revision))
	s.metrics.wrote(err)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	k.known, k.revision, k.stored = true, ack.Sequence, data
	return nil
}

// codeWrongLastSequence is what a clustered stream answers while another write
// of the same key is under way; the client library has no name for it.
const codeWrongLastSequence jetstream.ErrorCode = 10164

// isConflict reports whether another node wrote the record first.
func isConflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == codeWrongLastSequence)
}

// isFinal reports whether trying again is of no use.
func isFinal(err error) bool {
	return errors.Is(err, ErrVersion) || errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, eventlog.ErrTooLarge)
}

// backoff spaces attempts: short after a conflict, longer while NATS is away.
type backoff struct{ attempts int }

// sleep waits before the next attempt, or returns why ctx has ended.
func (b *backoff) sleep(ctx context.Context, conflict bool) error {
	base, limit := 50*time.Millisecond, 2*time.Second
	if conflict {
		base, limit = time.Millisecond, 100*time.Millisecond
	}
	wait := min(base<<min(b.attempts, 10), limit)
	b.attempts++
	lifecycle.Sleep(ctx, wait/2+rand.N(wait))
	return ctx.Err()
}
