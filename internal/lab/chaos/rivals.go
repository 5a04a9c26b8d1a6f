package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// connectionLimit is the default of WS_MAX_CONNECTIONS_PER_VP.
	connectionLimit = 5
	// spread is what edges on a busy machine may take until they know of each
	// other's connections and have closed those over the limit.
	spread = 5 * time.Second
)

// crowded is how many orchestrators have more daemons than may be connected,
// and each how many.
const (
	crowded     = 3
	rivalsOfOne = connectionLimit + 2
)

// rivalry is the daemons of an orchestrator that has too many of them: they
// come and go, and whoever finds no place tries again and again.
type rivalry struct {
	cancel context.CancelFunc
	tasks  sync.WaitGroup
}

// rivals lays out the daemons of an orchestrator that has too many. Each has a
// subscription that the others have not, so that none of them takes over what
// another one that has left was still to get.
func (c *crowd) rivals(orchestrator protocol.OrchestratorID, random *rand.Rand) []*seat {
	var seats []*seat
	for j := range rivalsOfOne {
		own := protocol.Pattern(fmt.Sprintf("rival.%d", j))
		s := &seat{habit: rival, profile: traffic.Profile{
			Seat: ledger.Seat(fmt.Sprintf("%s#%d", orchestrator, j)), Orchestrator: orchestrator,
			Subscribes: []protocol.Subscribe{{EventTypes: []protocol.Pattern{"message.*", "call.*", "vp.mentioned", own}}},
			Secret:     cluster.Secret, URLs: c.edgesFrom(random.IntN(len(c.w.Edges))),
		}}
		s.rename()
		seats = append(seats, s)
	}
	return seats
}

// contend has the rivals come.
func (c *crowd) contend() {
	ctx, cancel := context.WithCancel(context.Background())
	c.rivalry = &rivalry{cancel: cancel}
	for i, seats := range c.seats {
		for j, s := range seats {
			if s.habit == rival {
				random := c.w.options.random(uint64(500_000 + 10*i + j))
				c.rivalry.tasks.Go(func() { c.vie(ctx, s, random) })
			}
		}
	}
}

// withdraw has all rivals leave.
func (c *crowd) withdraw() {
	if c.rivalry == nil {
		return
	}
	c.rivalry.cancel()
	c.rivalry.tasks.Wait()
	c.rivalry = nil
}

func (c *crowd) vie(ctx context.Context, s *seat, random *rand.Rand) {
	for ctx.Err() == nil {
		s.profile.URLs = c.edgesFrom(random.IntN(len(c.w.Edges)))
		if err := s.enter(c); err != nil {
			panic(err) // a configuration that is good elsewhere
		}
		wait(ctx, 2*time.Second+time.Duration(random.IntN(6000))*time.Millisecond)
		s.leave(c)
		wait(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
	}
}
