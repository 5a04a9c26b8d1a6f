package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// habit is how the daemons of an orchestrator behave; number i has habit i%4,
// apart from the last ones, whose daemons are rivals.
type habit int

const (
	// steady daemons stay; what they see is what the service was like.
	steady habit = iota
	// restless ones leave or are cut off, and come back under their ids.
	restless
	// renaming ones come back under new ids.
	renaming
	// lazy ones stay, and acknowledge some events late, or at the repeat, or never.
	lazy
	habits
	// rival ones are more than their orchestrator may have connected.
	rival
)

// crowd is all daemons.
type crowd struct {
	w     *world
	seats [][]*seat // by orchestrator

	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	rivalry *rivalry // nil while there is none
	// settling: the lazy ones acknowledge all that comes, or comes again.
	settling atomic.Bool
	// refused collects daemons that the gateway sent away for good.
	mu      sync.Mutex
	refused []string
}

// seat is a daemon that is there or will come back.
type seat struct {
	habit   habit
	profile traffic.Profile
	name    int // of the daemon id, raised by renaming

	mu     sync.Mutex // guards daemon for late acks
	daemon *traffic.Daemon
}

// subscribes are what the first, second and third daemon of an orchestrator
// subscribe to; each event matches the first one's.
var subscribes = [][]protocol.Subscribe{
	{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
	{{EventTypes: []protocol.Pattern{"message.*"}, ChannelIDs: []string{"c1", "c2"}}, {EventTypes: []protocol.Pattern{"vp.mentioned"}}},
	{{EventTypes: []protocol.Pattern{"message.received", "call.*"}}},
}

func newCrowd(w *world) *crowd {
	c := &crowd{w: w}
	random := w.options.random(2)
	for i, left := 0, w.options.daemons; left > 0; i++ {
		id := protocol.OrchestratorID(fmt.Sprintf("vp_%d", i))
		var seats []*seat
		for j := range min(left, 1+(i/int(habits))%3) {
			s := &seat{habit: habit(i % int(habits))}
			s.profile = traffic.Profile{
				Seat: ledger.Seat(fmt.Sprintf("%s#%d", id, j)), Orchestrator: id,
				Subscribes: subscribes[j], Secret: cluster.Secret, URLs: c.edgesFrom(random.IntN(len(w.Edges))),
				Handle: s.handle(c, random.Uint64()),
			}
			s.rename()
			seats = append(seats, s)
			left--
		}
		c.seats = append(c.seats, seats)
	}
	for i := range crowded {
		c.seats = append(c.seats, c.rivals(protocol.OrchestratorID(fmt.Sprintf("vp_crowded_%d", i)), random))
	}
	return c
}

func (s *seat) rename() {
	s.name++
	s.profile.Daemon = protocol.DaemonID(fmt.Sprintf("daemon_%s_%d", s.profile.Seat, s.name))
}

func (c *crowd) edgesFrom(n int) []string {
	var urls []string
	for i := range c.w.Edges {
		urls = append(urls, c.w.Edges[(n+i)%len(c.w.Edges)].URL)
	}
	return urls
}

// handle returns what a daemon does with an event.
func (s *seat) handle(c *crowd, seed uint64) func(context.Context, protocol.Event) error {
	return func(_ context.Context, e protocol.Event) error {
		n := number(e.EventID)
		switch random := rand.New(rand.NewPCG(seed, n)); {
		case s.habit != lazy:
			return nil
		case neverAcked(n) && !c.settling.Load():
			return client.ErrNoAck
		case random.IntN(40) == 0 && !e.Redelivered:
			return client.ErrNoAck // the repeat is acknowledged
		case random.IntN(20) == 0:
			time.AfterFunc(time.Duration(random.IntN(4000))*time.Millisecond, func() { s.ack(e.EventID) })
			return client.ErrNoAck
		}
		return nil
	}
}

// neverAcked says which events no lazy daemon acknowledges while faults happen:
// each takes many repeats, one after the other, until it is a dead letter.
func neverAcked(n uint64) bool { return n%601 == 7 }

func (s *seat) ack(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.daemon != nil {
		s.daemon.Ack(id)
	}
}

func (s *seat) enter(c *crowd) error {
	d, err := traffic.StartDaemon(c.w.ledger, s.profile)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.daemon = d
	return nil
}

func (s *seat) leave(c *crowd) {
	s.mu.Lock()
	d := s.daemon
	s.daemon = nil
	s.mu.Unlock()
	if d == nil {
		return
	}
	if err := d.Stop(); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.refused = append(c.refused, fmt.Sprintf("%s: %v", s.profile.Daemon, err))
	}
}

// start brings all daemons in, the first of each orchestrator first, so that
// none takes its sibling for gone.
func (c *crowd) start(ctx context.Context) error {
	total := 0
	for wave := range subscribes {
		var entered []*seat
		for _, seats := range c.seats {
			if wave < len(seats) && seats[wave].habit != rival {
				if err := seats[wave].enter(c); err != nil {
					return err
				}
				entered = append(entered, seats[wave])
			}
		}
		for _, s := range entered {
			if err := s.daemon.AwaitSubscribed(ctx); err != nil {
				return err
			}
		}
		total += len(entered)
		if err := c.awaitClaims(ctx, total); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) awaitClaims(ctx context.Context, n int) error {
	for _, node := range slices.Concat(c.w.Routers, c.w.Edges) {
		if err := node.AwaitMetric(ctx, "gateway_directory_claims", float64(n)); err != nil {
			return err
		}
	}
	return nil
}

// churn begins the coming and going.
func (c *crowd) churn() {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.contend()
	for i, seats := range c.seats {
		for j, s := range seats {
			if s.habit == restless || s.habit == renaming {
				random := c.w.options.random(uint64(1000 + 10*i + j))
				c.tasks.Go(func() { c.wander(ctx, s, random) })
			}
		}
	}
}

func (c *crowd) wander(ctx context.Context, s *seat, random *rand.Rand) {
	for {
		wait(ctx, 3*time.Second+time.Duration(random.IntN(30_000))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		if random.IntN(3) == 0 {
			s.daemon.Cut()
			continue
		}
		s.leave(c)
		if s.habit == renaming {
			s.rename()
		}
		s.profile.URLs = c.edgesFrom(random.IntN(len(c.w.Edges)))
		wait(ctx, time.Duration(random.IntN(4000))*time.Millisecond)
		if err := s.enter(c); err != nil {
			panic(err) // a configuration that was good before
		}
	}
}

// calm ends the coming and going; everybody but the rivals is there then.
func (c *crowd) calm() {
	c.settling.Store(true)
	if c.cancel != nil {
		c.cancel()
	}
	c.tasks.Wait()
}

// finale has the renaming ones come back once more while nobody of theirs is
// there. What was addressed to an id that somebody was taken to be connected
// under when its successor came waits for this.
func (c *crowd) finale(ctx context.Context) error {
	var left, staying []*seat
	for _, seats := range c.seats {
		for _, s := range seats {
			switch s.habit {
			case renaming:
				left = append(left, s)
			case rival:
			default:
				staying = append(staying, s)
			}
		}
	}
	c.withdraw()
	defer c.contend()
	var tasks sync.WaitGroup
	for _, s := range left {
		tasks.Go(func() { s.leave(c) })
	}
	tasks.Wait()
	bounded, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := c.awaitClaims(bounded, len(staying)); err != nil {
		c.w.say("the directory does not forget who has left: %v", err)
	}
	for _, s := range left {
		s.rename()
		if err := s.enter(c); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) stop() {
	c.calm()
	c.withdraw()
	var tasks sync.WaitGroup
	for _, s := range slices.Concat(c.seats...) {
		tasks.Go(func() { s.leave(c) })
	}
	tasks.Wait()
}
