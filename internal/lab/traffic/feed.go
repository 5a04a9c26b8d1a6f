package traffic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

// Way is how an event gets into the gateway.
type Way int

// The ways.
const (
	// OnRedis is once, as Neolith publishes.
	OnRedis Way = iota
	// IntoLog is until the log acknowledges it, as a backend should.
	IntoLog
	// Astray is the same by a publisher that takes the log to have one partition
	// less than it has.
	Astray
)

// Entrance is where a gateway takes events.
type Entrance struct {
	Redis redis.UniversalClient
	// Channel is one that the bridges listen to; empty: Neolith's.
	Channel    string
	JetStream  jetstream.JetStream
	Partitions int
}

// Message is an event such as daemons usually get, to be acknowledged.
func Message(to protocol.OrchestratorID, id string, payload []byte) event.Event {
	return event.Event{
		ID: id, Type: "message.received", OrchestratorID: to, RequiresAck: true, Payload: payload, Timestamp: "2026-11-22T10:00:00.000Z",
	}
}

// Publication is an event and what became of its publishing.
type Publication struct {
	Event event.Event
	Way   Way
	// Began is when it was published first.
	Began time.Time
	// Taken is when the log had acknowledged it, or Redis had given it to a
	// bridge, for the first time; zero: not yet.
	Taken time.Time
	// Bridges is how many Redis had given it to.
	Bridges int64
}

// Feed is publishers, and what became of all that they published. Its methods
// may be called at the same time; only publishes that follow each other have an
// order.
type Feed struct {
	// Timeout bounds one try to publish, and Retry is the time until the next one
	// into the log. They are changed before the first publish.
	Timeout, Retry time.Duration

	ledger   *ledger.Ledger
	entrance Entrance
	log      map[Way]*publisher.Publisher

	// New events are begun until end, and tried until giveUp; end is nil while
	// nobody publishes.
	beginning, trying context.Context
	end, giveUp       context.CancelFunc
	authors           sync.WaitGroup

	mu           sync.Mutex
	publications []*Publication
	byEvent      map[publicationKey]*Publication
	retries      int
	refused      []string
}

type publicationKey struct {
	orchestrator protocol.OrchestratorID
	event        string
}

// NewFeed returns a feed that nobody publishes to yet.
func NewFeed(l *ledger.Ledger, into Entrance) (*Feed, error) {
	log, err := publisher.New(into.JetStream, publisher.Config{Partitions: into.Partitions})
	astray, fault := publisher.New(into.JetStream, publisher.Config{Partitions: max(1, into.Partitions-1)})
	if into.Channel == "" {
		into.Channel = "daemon:events"
	}
	return &Feed{
		// Asked again, the log stores nothing twice.
		Timeout: 2 * time.Second, Retry: 100 * time.Millisecond,
		ledger: l, entrance: into, log: map[Way]*publisher.Publisher{IntoLog: log, Astray: astray},
		byEvent: map[publicationKey]*Publication{},
	}, errors.Join(err, fault)
}

// ErrUnheard is returned for what Redis gave to no bridge: it is lost, as far as
// the gateway goes.
var ErrUnheard = errors.New("no bridge has heard it")

// Publish publishes events in order: on Redis in one pipeline, into the log each
// once the one before is there. An id that was published before is the same
// publication.
func (f *Feed) Publish(ctx context.Context, way Way, events ...event.Event) error {
	if way == OnRedis {
		return f.onRedis(ctx, events)
	}
	for _, e := range events {
		if err := f.intoLog(ctx, f.publication(way, e)); err != nil {
			return fmt.Errorf("publish %s: %w", e.ID, err)
		}
	}
	return nil
}

func (f *Feed) publication(way Way, e event.Event) *Publication {
	f.ledger.Published(e)
	f.mu.Lock()
	defer f.mu.Unlock()
	k := publicationKey{e.OrchestratorID, e.ID}
	p := f.byEvent[k]
	if p == nil {
		p = &Publication{Event: e, Way: way, Began: time.Now()}
		f.byEvent[k] = p
		f.publications = append(f.publications, p)
	}
	return p
}

func (f *Feed) onRedis(ctx context.Context, events []event.Event) error {
	var texts [][]byte
	var publications []*Publication
	for _, e := range events {
		text, err := e.MarshalJSON() // not json.Marshal, which would rewrite the payload
		if err != nil {
			return fmt.Errorf("publish %s: %w", e.ID, err)
		}
		texts, publications = append(texts, text), append(publications, f.publication(OnRedis, e))
	}
	heard, err := f.pipeline(ctx, texts)
	for i, bridges := range heard {
		if bridges > 0 {
			f.taken(publications[i], bridges)
		}
	}
	return err
}

// PublishRaw publishes on Redis what need not be an event; nothing is noted.
func (f *Feed) PublishRaw(ctx context.Context, texts ...[]byte) error {
	_, err := f.pipeline(ctx, texts)
	return err
}

// pipeline returns how many bridges Redis has given each of the texts to, up to
// the first failure.
func (f *Feed) pipeline(ctx context.Context, texts [][]byte) (heard []int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	pipe := f.entrance.Redis.Pipeline()
	for _, text := range texts {
		pipe.Publish(ctx, f.entrance.Channel, text)
	}
	results, err := pipe.Exec(ctx)
	for _, r := range results {
		n, ok := r.(*redis.IntCmd)
		if !ok || n.Err() != nil {
			break // and so have those after it
		}
		heard = append(heard, n.Val())
	}
	if err == nil && slices.Contains(heard, 0) {
		err = ErrUnheard
	}
	if err != nil {
		return heard, fmt.Errorf("publish on Redis: %w", err)
	}
	return heard, nil
}

// intoLog ends early at what no repetition mends.
func (f *Feed) intoLog(ctx context.Context, p *Publication) error {
	for {
		bounded, cancel := context.WithTimeout(ctx, f.Timeout)
		_, err := f.log[p.Way].Publish(bounded, p.Event)
		cancel()
		switch {
		case err == nil:
			f.ledger.Confirmed(p.Event.OrchestratorID, p.Event.ID)
			f.taken(p, 0)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !publisher.Retryable(err) && !errors.Is(err, context.DeadlineExceeded):
			f.mu.Lock()
			defer f.mu.Unlock()
			f.refused = append(f.refused, fmt.Sprintf("the log refuses %s: %v", p.Event.ID, err))
			return err
		}
		f.mu.Lock()
		f.retries++
		f.mu.Unlock()
		Wait(ctx, f.Retry)
	}
}

func (f *Feed) taken(p *Publication, bridges int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Taken.IsZero() {
		p.Taken, p.Bridges = time.Now(), bridges
	}
}

// Since returns what was published first at a time or later, in that order, as
// it stands now.
func (f *Feed) Since(from time.Time) (list []Publication) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.publications {
		if !p.Began.Before(from) {
			list = append(list, *p)
		}
	}
	return list
}

// Retries is how often a publish into the log was repeated.
func (f *Feed) Retries() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.retries
}

// Refused returns what the log would not take, whatever was tried: findings.
func (f *Feed) Refused() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.refused...)
}

// Author publishes, one event after the other, each once the one before is taken.
type Author struct {
	Way Way
	// Every is the time between two events; Delay comes before the first of these.
	Every, Delay time.Duration
	// Next makes an event that is due at a time.
	Next func(due time.Time) event.Event
	// CatchUp: what was due while an event took long is published after it.
	// Otherwise it is left out.
	CatchUp bool
}

// Start has authors publish until Finish or Stop, beside those who do already.
// These three are called one after the other.
func (f *Feed) Start(authors ...Author) {
	if f.end == nil {
		f.trying, f.giveUp = context.WithCancel(context.Background())
		f.beginning, f.end = context.WithCancel(f.trying)
	}
	beginning, trying := f.beginning, f.trying
	for _, a := range authors {
		f.authors.Go(func() { f.write(beginning, trying, a) })
	}
}

func (f *Feed) write(beginning, trying context.Context, a Author) {
	Wait(beginning, a.Delay)
	for due := time.Now().Add(a.Every); ; due = due.Add(a.Every) {
		if late := time.Since(due); late > 0 && !a.CatchUp {
			due = due.Add(late.Truncate(a.Every) + a.Every)
		}
		Wait(beginning, time.Until(due))
		if beginning.Err() != nil {
			return
		}
		// What came of it stands in the publication.
		_ = f.Publish(trying, a.Way, a.Next(due))
	}
}

// Finish has no event begin any more and waits until those that have begun are
// taken. It gives up when ctx ends.
func (f *Feed) Finish(ctx context.Context) error {
	if f.end == nil {
		return nil
	}
	f.end()
	ended := make(chan struct{})
	go func() { f.authors.Wait(); close(ended) }()
	select {
	case <-ended:
		f.Stop()
		return nil
	case <-ctx.Done():
		f.Stop()
		return fmt.Errorf("publishers have not ended, the log does not acknowledge: %w", context.Cause(ctx))
	}
}

// Stop has every author end at once, whether its event is taken or not.
func (f *Feed) Stop() {
	if f.end == nil {
		return
	}
	f.giveUp()
	f.authors.Wait()
	f.end = nil
}
