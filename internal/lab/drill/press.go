package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

const (
	interval       = 250 * time.Millisecond // between two events of an orchestrator
	publishTimeout = 2 * time.Second
	publishRetry   = 100 * time.Millisecond
)

// press is a crew's publishers. Each remembers what it has published, as one
// must that wants to be able to repeat it.
type press struct {
	crew  *crew
	js    *publisher.Publisher
	redis *traffic.Publisher

	mu      sync.Mutex
	all     []*publication
	count   int
	cancel  context.CancelFunc // ends publishing; nil while nobody publishes
	writing sync.WaitGroup
}

// publication is an event, and who is owed it.
type publication struct {
	event event.Event
	seat  *seat
	began time.Time
	// out: the log has acknowledged it, or a bridge has heard it.
	out bool
	// acked is when the log had it for certain; zero on Redis, which does not say.
	acked time.Time
}

func newPress(c *crew) (*press, error) {
	js, err := publisher.New(c.w.log.JetStream(), publisher.Config{Partitions: partitions})
	if err != nil {
		return nil, err
	}
	return &press{crew: c, js: js, redis: traffic.NewPublisher(c.ledger, c.w.Redis.Addr)}, nil
}

// start begins to publish, or goes on.
func (p *press) start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	for n, s := range p.crew.seats {
		p.writing.Go(func() { p.write(ctx, n, s) })
	}
}

// stop has every publisher end at once, whether its event is stored or not.
func (p *press) stop() {
	if p.cancel != nil {
		p.cancel()
		p.writing.Wait()
		p.cancel = nil
	}
}

// finish has every publisher end, and repeats what was begun from a time on and
// is not known to be out.
func (p *press) finish(ctx context.Context, from time.Time) error {
	p.stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, x := range p.since(from) {
		if !x.out {
			if err := p.publish(ctx, x); err != nil {
				return err
			}
		}
	}
	return nil
}

// stored waits until the log has what was begun from a time on.
func (p *press) stored(ctx context.Context, from time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var absent []string
	err := until(ctx, "not everything is in the log", func() (bool, error) {
		if err := p.crew.w.log.Record(ctx, p.crew.ledger, partitions); err != nil {
			return false, err
		}
		absent = missing(p.since(from), func(x *publication) bool { return p.crew.ledger.IsStored(x.event.OrchestratorID, x.event.ID) })
		return len(absent) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %v", err, absent)
	}
	return nil
}

func (p *press) close() {
	p.stop()
	_ = p.redis.Close()
}

// onRedis tells which way the events of an orchestrator go.
func onRedis(s *seat) bool { return s.number%2 == 0 }

func (p *press) write(ctx context.Context, n int, s *seat) {
	wait(ctx, interval*time.Duration(n)/time.Duration(len(habits)))
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if p.publish(ctx, p.next(s)) != nil {
			return
		}
	}
}

func (p *press) next(s *seat) *publication {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	x := &publication{began: time.Now(), seat: s, event: event.Event{
		ID: fmt.Sprintf("%s-%d", p.crew.name, p.count), Type: "message.received", OrchestratorID: s.profile.Orchestrator, RequiresAck: true,
		Payload: json.RawMessage(fmt.Sprintf(`{"n": %d}`, p.count)), Timestamp: "2026-11-22T10:00:00.000Z",
	}}
	p.all = append(p.all, x)
	return x
}

// publish publishes an event until the log has acknowledged it, or a bridge has
// heard it, or ctx ends.
func (p *press) publish(ctx context.Context, x *publication) error {
	p.crew.ledger.Published(x.event)
	for ctx.Err() == nil {
		if p.try(ctx, x) {
			return nil
		}
		wait(ctx, publishRetry)
	}
	return fmt.Errorf("publish %s: %w", x.event.ID, ctx.Err())
}

func (p *press) try(ctx context.Context, x *publication) bool {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if onRedis(x.seat) {
		bridges, err := p.redis.PublishOne(ctx, x.event)
		if err != nil || bridges == 0 {
			return false
		}
	} else if _, err := p.js.Publish(ctx, x.event); err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	x.out = true
	if !onRedis(x.seat) && x.acked.IsZero() {
		x.acked = time.Now()
	}
	return true
}

// ackedAfter reports whether the log has acknowledged an event after a time.
func (p *press) ackedAfter(x *publication, when time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return x.acked.After(when)
}

// since returns what was published from a time on.
func (p *press) since(when time.Time) (list []*publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.all {
		if !x.began.Before(when) {
			list = append(list, x)
		}
	}
	return list
}

// between returns what was begun in a span of time.
func (p *press) between(from, to time.Time) (list []*publication) {
	for _, x := range p.since(from) {
		if x.began.Before(to) {
			list = append(list, x)
		}
	}
	return list
}

// repeat publishes all of some events again, each orchestrator's in order.
func (p *press) repeat(ctx context.Context, list []*publication) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, x := range list {
		if err := p.publish(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// missing returns those of which it does not hold.
func missing(list []*publication, holds func(*publication) bool) (ids []string) {
	for _, x := range list {
		if !holds(x) {
			ids = append(ids, x.event.ID)
		}
	}
	return ids
}

// slowest is the longest time from a publish to the event's first receipt.
func slowest(list []*publication) (longest time.Duration) {
	for _, x := range list {
		longest = max(longest, x.seat.firstReceipt(x.event.ID).Sub(x.began))
	}
	return longest
}
