package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
	"github.com/neolith/daemon-gateway/pkg/publisher"
)

// authors is how many publish side by side, one half of them on Redis. Each has
// its own orchestrators and waits for one event before the next.
const authors = 20

const (
	publishTimeout = 2 * time.Second
	publishRetry   = 100 * time.Millisecond
	// lastWords bounds how long events that were begun may take after all healed.
	lastWords = time.Minute
	// slow is a publish that says that NATS, or the machine, is overcome: what
	// edges write may take as long.
	slow = time.Second
)

// press is all publishers.
type press struct {
	w     *world
	nc    *nats.Conn
	js    *publisher.Publisher
	redis *traffic.Publisher
	count atomic.Uint64

	ctx    context.Context // ends when no new event is to begin
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu      sync.Mutex
	heard   []heard
	unheard int // Redis failed, or nobody listened
	retries int
	failed  []string
}

// heard is a publish on Redis that bridges have been given.
type heard struct {
	event   event.Event
	when    time.Time
	bridges int64
}

func newPress(w *world) (*press, error) {
	nc, err := nats.Connect(w.NATSURL(), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		// A server that went silent is left soon.
		nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	p := &press{w: w, nc: nc, redis: traffic.NewPublisher(w.ledger, w.Redis.Addr)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.js, err = publisher.New(js, publisher.Config{Partitions: partitions})
	return p, err
}

func (p *press) close() {
	p.cancel()
	p.nc.Close()
	_ = p.redis.Close()
}

func (p *press) start() {
	for i := range authors {
		random := p.w.options.random(uint64(100_000 + i))
		p.tasks.Go(func() { p.write(i, random) })
	}
}

// finish has every author end, and waits until what was begun is acknowledged.
func (p *press) finish(ctx context.Context) error {
	p.cancel()
	ended := make(chan struct{})
	go func() { p.tasks.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-time.After(lastWords):
		return errors.New("publishers have not ended: the log does not acknowledge")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *press) write(author int, random *rand.Rand) {
	tick := time.NewTicker(time.Second * authors / time.Duration(p.w.options.rate))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-p.ctx.Done():
			return
		}
		// Orchestrators are dealt to the authors like cards.
		n := len(p.w.crowd.seats)
		own := (n - author + authors - 1) / authors
		if own < 1 {
			return
		}
		e := p.next(p.w.crowd.seats[author+authors*random.IntN(own)], random)
		// Orchestrators of every habit are on both ways, hence not author%2.
		if (author/int(habits))%2 == 0 {
			p.onRedis(e)
		} else {
			p.onJetStream(e)
		}
	}
}

var eventTypes = []protocol.EventType{
	"message.received", "message.received", "message.reaction", "channel.joined", "presence.updated",
	"call.started", "vp.mentioned", "system.maintenance",
}

var channels = []string{"", "c1", "c2", "c3"}

func (p *press) next(seats []*seat, random *rand.Rand) event.Event {
	n := p.count.Add(1)
	e := event.Event{
		ID:             fmt.Sprintf("e-%d", n),
		Type:           eventTypes[random.IntN(len(eventTypes))],
		OrchestratorID: seats[0].profile.Orchestrator,
		Payload:        json.RawMessage(fmt.Sprintf(`{"n": %d}`, n)),
		Timestamp:      "2026-11-22T10:00:00.000Z",
		ChannelID:      channels[random.IntN(len(channels))],
		RequiresAck:    random.IntN(5) > 0,
	}
	if random.IntN(20) == 0 {
		s := seats[random.IntN(len(seats))]
		s.mu.Lock()
		// What is addressed to an id that the gateway has never heard of is
		// settled for the others, and nobody is owed it.
		if s.daemon != nil && s.daemon.Subscribed() {
			e.DaemonID = s.daemon.Profile().Daemon
		}
		s.mu.Unlock()
	}
	if random.IntN(50) == 0 {
		e.Priority = 1
	}
	return e
}

// number is that of an event's id.
func number(id string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(id, "e-"), 10, 64)
	return n
}

func (p *press) onRedis(e event.Event) {
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	n, err := p.redis.PublishOne(ctx, e)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || n == 0 {
		p.unheard++
		return
	}
	p.heard = append(p.heard, heard{e, time.Now(), n})
}

// onJetStream publishes until the log acknowledges, as a backend should.
func (p *press) onJetStream(e event.Event) {
	p.w.ledger.Published(e)
	for {
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
		_, err := p.js.Publish(ctx, e)
		cancel()
		if took := time.Since(began); took > slow {
			p.w.nemesis.strained(began, took)
		}
		if err == nil {
			p.w.ledger.Confirmed(e.OrchestratorID, e.ID)
			return
		}
		p.mu.Lock()
		p.retries++
		// A timeout of ours and a closed connection at the end of a run are both
		// for the retry; anything else that cannot be retried is a finding.
		if !publisher.Retryable(err) && !errors.Is(err, context.DeadlineExceeded) {
			p.failed = append(p.failed, fmt.Sprintf("%s: %v", e.ID, err))
		}
		p.mu.Unlock()
		if p.nc.IsClosed() {
			return
		}
		wait(context.Background(), publishRetry)
	}
}
