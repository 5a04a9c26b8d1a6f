package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// lazy daemons stay, and acknowledge some events late, or at the repeat, or never.
const lazy = "lazy"

// habits are those of the orchestrators in turn: number i has the i-th.
func (o options) habits() []string {
	all := []string{traffic.Steady, traffic.Restless, traffic.Renaming, lazy}
	if o.fickle {
		all = append(all, traffic.Fickle)
	}
	if o.workers {
		all = append(all, traffic.Serial, traffic.Overdue, traffic.Batching, traffic.Posting, traffic.Crashing)
	}
	return all
}

// question is how often daemons ask their edge for a sign that it has their acks.
const question = time.Second

// stay is how long daemons that come and go are there, about.
const stay = 30 * time.Second

// What each part of a run draws from; see World.Random. A number that changes
// changes what a seed means.
const (
	partFaults  = 1
	partLayout  = 2
	partSlow    = 3
	partSeats   = 1_000   // and 10 for each orchestrator, 1 for each of its seats
	partAuthors = 100_000 // and 1 for each
	partRivals  = 500_000 // as partSeats
)

// subscribes are what the first, second and third daemon of an orchestrator
// subscribe to; each event matches the first one's.
var subscribes = [][]protocol.Subscribe{
	{traffic.Everything()},
	{{EventTypes: []protocol.Pattern{"message.*"}, ChannelIDs: []string{"c1", "c2"}}, {EventTypes: []protocol.Pattern{"vp.mentioned"}}},
	{{EventTypes: []protocol.Pattern{"message.received", "call.*"}}},
}

// layOut makes the seats.
func (c *chaos) layOut() {
	random, habits := c.Random(partLayout), c.options.habits()
	for i, left := 0, c.options.daemons; left > 0; i++ {
		id := protocol.OrchestratorID(fmt.Sprintf("vp_%d", i))
		var seats []*traffic.Seat
		for j := range min(left, 1+(i/len(habits))%3) {
			first := random.IntN(len(c.Edges))
			s := c.Crowd.Add(id, c.habit(i, j, random.Uint64()), subscribes[j]...)
			s.Turn(first)
			if s.Habit.Name != traffic.Overdue { // whose heartbeats would keep the ack timeout from passing
				s.Profile.HeartbeatInterval = question
			}
			seats = append(seats, s)
			left--
		}
		c.orchestrators = append(c.orchestrators, seats)
	}
	c.rivals = traffic.NewCrowd(c.Ledger, c.URLs(), cluster.Secret)
	for i := range crowded {
		c.orchestrators = append(c.orchestrators, c.addRivals(protocol.OrchestratorID(fmt.Sprintf("vp_crowded_%d", i)), random))
	}
}

func (c *chaos) habit(i, j int, seed uint64) traffic.Habit {
	habits := c.options.habits()
	switch name := habits[i%len(habits)]; name {
	case traffic.Restless, traffic.Renaming:
		return traffic.Wandering(name, c.Random(uint64(partSeats+10*i+j)), stay)
	case traffic.Fickle:
		return traffic.Changing(c.Random(uint64(partSeats+10*i+j)), stay/2, protocol.Subscribe{EventTypes: []protocol.Pattern{"call.*"}})
	case traffic.Serial:
		return traffic.Working(name, c.Random(uint64(partSeats+10*i+j)), 200*time.Millisecond, 1)
	case traffic.Overdue:
		return traffic.Working(name, c.Random(uint64(partSeats+10*i+j)), 2*ackTimeout, 20)
	case traffic.Batching:
		return traffic.Together()
	case traffic.Posting:
		return traffic.ByHTTP()
	case traffic.Crashing:
		return traffic.Falling(c.Random(uint64(partSeats+10*i+j)), func(e protocol.Event) bool {
			return e.RequiresAck && isDeadly(number(e.EventID)) && !c.settling.Load()
		})
	case lazy:
		return traffic.Habit{Name: lazy, Handle: func(_ context.Context, s *traffic.Seat, e protocol.Event) error { return c.beLazy(s, e, seed) }}
	default:
		return traffic.Habit{Name: name}
	}
}

// errNotNow has an event come again.
var errNotNow = errors.New("not now")

func (c *chaos) beLazy(s *traffic.Seat, e protocol.Event, seed uint64) error {
	n := number(e.EventID)
	switch random := rand.New(rand.NewPCG(seed, n)); {
	case neverAcked(n) && !c.settling.Load():
		return errNotNow
	case random.IntN(40) == 0 && !e.Redelivered:
		return errNotNow // the repeat is acknowledged
	case random.IntN(20) == 0:
		time.AfterFunc(time.Duration(random.IntN(4000))*time.Millisecond, func() { s.Ack(e.EventID) })
		return client.ErrNoAck
	}
	return nil
}

// neverAcked says which events no lazy daemon acknowledges while faults happen:
// each takes many repeats, one after the other, until it is a dead letter.
func neverAcked(n uint64) bool { return n%601 == 7 }

// isDeadly says which events crash the crashing daemons, until they are dead
// letters; no other event may become one meanwhile.
func isDeadly(n uint64) bool { return n%211 == 5 }

// returnRenamed has the renaming daemons come back once more, under new ids, when
// none of their orchestrator is left. An event for an old id is kept for that id
// while its daemon is taken to be connected; only now a successor gets it.
func (c *chaos) returnRenamed(ctx context.Context) error {
	c.rivals.Calm()
	defer c.rivals.Stir()
	renaming := c.Crowd.Seats(traffic.Renaming)
	c.Crowd.Leave(renaming...)
	bounded, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := c.AwaitClaims(bounded, c.Crowd.Present()); err != nil {
		c.Say("the directory does not forget who has left: %v", err)
	}
	for _, s := range renaming {
		s.Rename()
		if err := s.Enter(); err != nil {
			return err
		}
	}
	return nil
}

const (
	// connectionLimit is the default of WS_MAX_CONNECTIONS_PER_VP.
	connectionLimit = 5
	// spread is what edges on a busy machine may take until they know of each
	// other's connections and have closed those over the limit.
	spread = 5 * time.Second
	// crowded is how many orchestrators have more daemons than may be connected,
	// and rivalsOfOne how many each.
	crowded     = 3
	rivalsOfOne = connectionLimit + 2
)

// addRivals makes the seats of an orchestrator that has too many: its daemons
// come and go, and whoever finds no place tries again and again. Each has a
// subscription that the others have not, so that none of them takes over what
// another one that has left was still to get.
func (c *chaos) addRivals(id protocol.OrchestratorID, random *rand.Rand) (seats []*traffic.Seat) {
	i := len(c.orchestrators)
	for j := range rivalsOfOne {
		own := protocol.Pattern(fmt.Sprintf("rival.%d", j))
		s := c.rivals.Add(id, traffic.Habit{Name: "rival", Move: func(ctx context.Context, s *traffic.Seat) {
			c.contend(ctx, s, c.Random(uint64(partRivals+10*i+j)))
		}}, protocol.Subscribe{EventTypes: []protocol.Pattern{"message.*", "call.*", "vp.mentioned", own}})
		s.Turn(random.IntN(len(c.Edges)))
		s.Profile.HeartbeatInterval = question
		seats = append(seats, s)
	}
	return seats
}

func (c *chaos) contend(ctx context.Context, s *traffic.Seat, random *rand.Rand) {
	for ctx.Err() == nil {
		s.Turn(random.IntN(len(c.Edges)))
		if err := s.Enter(); err != nil {
			panic(err) // a configuration that is good elsewhere
		}
		traffic.Wait(ctx, 2*time.Second+time.Duration(random.IntN(6000))*time.Millisecond)
		s.Leave()
		traffic.Wait(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
	}
}
