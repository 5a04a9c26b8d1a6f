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
)

// maxWriting bounds the writes under way at once, all in all and of a partition.
// Each partition has places of its own: where one does not answer, writes of it
// wait for seconds.
const (
	maxWriting            = 2048
	maxWritingOfPartition = 512
)

// writingOfEach is how many writes of each partition may be under way.
func writingOfEach(partitions int) int {
	return min(max(maxWriting/partitions, 32), maxWritingOfPartition)
}

// Store keeps the records of all orchestrators in JetStream, one KV bucket for
// each partition. Several nodes may write the same record: each write names the
// revision that it was made from, and whoever was too late reads again and
// repeats its own part. Of an orchestrator it holds only what a Writer that has
// begun may need, and what is not written yet. All methods may be called at the
// same time.
type Store struct {
	log     *eventlog.Log
	peers   Peers
	logger  *slog.Logger
	metrics *metrics
	now     func() time.Time

	partitions []*partition
	schedule   *schedule
}

// Peers are the edges that write the same records.
type Peers struct {
	// Self is this edge's name, as entries have it.
	Self string
	// Tell hints to another edge that the record of an orchestrator says
	// something else of connections there than before. It returns at once; a
	// hint that is lost is made up for by that edge's next write.
	Tell func(edge string, token event.Token)
}

// NewStore returns a store on the buckets that log has opened. It starts
// nothing: what Writers report is written while Run runs.
func NewStore(log *eventlog.Log, peers Peers, logger *slog.Logger, reg prometheus.Registerer) *Store {
	s := &Store{
		log: log, peers: peers, logger: logger.With("component", "cursor"), now: time.Now,
		schedule: newSchedule(log.Config().Partitions),
	}
	s.metrics = newMetrics(reg, func() float64 { return float64(s.dirty()) })
	for p := range log.Config().Partitions {
		stream := eventlog.BucketStream(eventlog.CursorBucket(event.Partition(p)))
		s.partitions = append(s.partitions, newPartition(event.Partition(p), writingOfEach(log.Config().Partitions),
			func(ctx context.Context, subjects []string) (map[string]eventlog.Stored, error) {
				found, err := log.LastMessages(ctx, stream, subjects)
				s.metrics.read(err)
				return found, err
			}))
	}
	return s
}

func (s *Store) partition(token event.Token) *partition { return s.partitions[s.log.Partition(token)] }

// Update lets decide change an orchestrator's record without any connection, as
// Writer.Begin does with one. An unchanged record is as read, from a replica
// that may lag, with what this node has yet to write. Nothing of it is kept.
func (s *Store) Update(ctx context.Context, token event.Token, decide func(Record) (next Record, changed bool)) error {
	if err := s.update(ctx, token, decide, func(*key) {}); err != nil {
		return fmt.Errorf("update the cursors of %s: %w", token, err)
	}
	return nil
}

// update calls done when the record that decide has returned is stored or
// unchanged.
func (s *Store) update(ctx context.Context, token event.Token, decide func(Record) (Record, bool), done func(*key)) error {
	p := s.partition(token)
	k, err := p.acquire(ctx, token)
	if err != nil {
		return err
	}
	defer p.release(token, k)
	var wait backoff
	for {
		k.known = false
		if err = s.attempt(ctx, p, token, k, decide, done); err == nil || isFinal(err) {
			return err
		}
		if end := wait.sleep(ctx, isConflict(err)); end != nil {
			s.schedule.add(token) // what others here have to write
			return errors.Join(end, err)
		}
	}
}

// attempt reads the record, puts on it what is yet to be written, lets decide
// change it, writes it, and tells whom it concerns. The caller holds busy.
func (s *Store) attempt(ctx context.Context, p *partition, token event.Token, k *key, decide func(Record) (Record, bool), done func(*key)) error {
	read, err := s.load(ctx, p, token, k)
	if err != nil {
		return err
	}
	own := p.collect(k)
	before := read
	var next Record
	for lost := true; lost; {
		var changed bool
		if next, changed = decide(own.applyTo(s.doubt(p, read), defaultLimits)); !changed {
			p.putBack(token, k, own)
			done(k)
			return nil
		}
		lost = false
		if worthWriting(read, next) || own.hasToLand(read) {
			if lost, err = s.write(ctx, p, token, k, next); lost {
				// What was decided did not know of it, and is taken back.
				read = own.applyTo(s.doubt(p, before), defaultLimits)
				_, err = s.write(ctx, p, token, k, read)
				read.Revision = k.revision
			}
			if err != nil {
				p.putBack(token, k, own)
				return err
			}
		}
	}
	done(k)
	if more := p.stored(token, k); more {
		s.schedule.add(token)
	}
	s.tell(p, token, k, own, before, next)
	return nil
}

// tell tells connections here and edges elsewhere what a record that is stored
// says of them. The caller holds busy.
func (s *Store) tell(p *partition, token event.Token, k *key, own unsaved, before, rec Record) {
	for _, edge := range before.Disturbed(rec) {
		if edge != s.peers.Self {
			s.peers.Tell(edge, token)
		}
	}
	s.hear(p, k, rec, own)
}

// Reload reads the orchestrator's record again and tells its connections here
// what it says of them, as after a hint. One that was taken over is put back.
func (s *Store) Reload(ctx context.Context, token event.Token) error {
	p := s.partition(token)
	if !p.isKept(token) {
		return nil
	}
	missing, err := s.reload(ctx, p, token)
	if err == nil && missing {
		err = s.flush(ctx, token)
	}
	if err != nil {
		return fmt.Errorf("reload the cursors of %s: %w", token, err)
	}
	return nil
}

func (s *Store) reload(ctx context.Context, p *partition, token event.Token) (missing bool, err error) {
	k, err := p.acquire(ctx, token)
	if err != nil {
		return false, err
	}
	defer p.release(token, k)
	k.known = false
	rec, err := s.load(ctx, p, token, k)
	if err != nil {
		return false, err
	}
	return s.hear(p, k, rec, nil), nil
}

// hear tells the connections here what a stored record says of them, and which of
// their reports were stored with it, and reports whether one has to be put back. The
// caller holds busy.
func (s *Store) hear(p *partition, k *key, rec Record, reported unsaved) (missing bool) {
	for _, w := range p.writersOf(k) {
		if w.hear(rec, reported) {
			missing = true
			w.SaveSoon()
		}
	}
	return missing
}

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
		p.saw(stored.Sequence)
	}
	rec, err := Decode(k.stored)
	if errors.Is(err, ErrMalformed) {
		s.metrics.malformed.Inc()
		s.logger.Error("cursors cannot be read, daemons start from the oldest event", "orchestrator", token, "error", err)
		rec, err = Record{Lost: Lost{Since: written(s.now())}}, nil
	}
	rec.Revision = k.revision
	return rec, err
}

// doubt returns the record as it is to be taken where its bucket was lost: whatever
// there is of it in what came after, daemons that were here may be missing.
func (s *Store) doubt(p *partition, rec Record) Record {
	if loss := p.loss().in(s.now(), s.log.Config().EventRetention); loss.Since.After(rec.Lost.Since) {
		rec.Lost = loss // what it says of an earlier one may be older as well
	}
	return rec
}

// write stores the record if the store still has k.revision. lost: this has shown that
// the bucket was lost, which the record does not say.
func (s *Store) write(ctx context.Context, p *partition, token event.Token, k *key, rec Record) (lost bool, err error) {
	data, err := rec.Encode()
	if err != nil {
		return false, err
	}
	select {
	case p.writing <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-p.writing }()
	k.known = false // until the answer says so, whatever it is
	before := p.newestRevision()
	revision, err := s.log.Replace(ctx, p.bucket, string(token), data, k.revision)
	s.metrics.wrote(err)
	if err != nil {
		return false, fmt.Errorf("write: %w", err)
	}
	k.known, k.revision, k.stored = true, revision, data
	if lost = p.wrote(revision, before, written(s.now())); lost {
		s.logger.Error("a bucket of cursors was lost, daemons without a cursor start from the oldest event", "bucket", p.bucket)
	}
	return lost, nil
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
