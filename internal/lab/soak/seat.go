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

// habit is how the daemons of an orchestrator behave.
type habit int

const (
	// steady daemons stay for the whole shift.
	steady habit = iota
	// restless ones leave or are cut off, and come back.
	restless
	// renaming ones come back under new ids.
	renaming
	habits
)

// seat is a daemon that is there or will come back.
type seat struct {
	shift   *shift
	habit   habit
	profile traffic.Profile
	name    int

	daemon *traffic.Daemon
}

// orchestrators is how many there are: every second one has one daemon, the
// others two.
func (o options) orchestrators() int { return max(1, o.daemons*2/3) }

// enter brings all daemons in, the first of each orchestrator first, so that
// none takes its sibling for gone.
func (s *shift) enter(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for wave := range 2 {
		var entered []*seat
		for i := wave; i < s.w.options.orchestrators(); i += 1 + wave {
			entered = append(entered, s.seat(i, wave))
		}
		s.seats = append(s.seats, entered...)
		for _, seat := range entered {
			if err := seat.enter(); err != nil {
				return err
			}
		}
		for _, seat := range entered {
			if err := seat.daemon.AwaitSubscribed(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *shift) seat(i, wave int) *seat {
	id := orchestrator(i)
	first := (i + wave) % len(s.w.Edges)
	var urls []string
	for j := range s.w.Edges {
		urls = append(urls, s.w.Edges[(first+j)%len(s.w.Edges)].URL)
	}
	seat := &seat{shift: s, habit: habit(i/2) % habits, profile: traffic.Profile{
		Seat: ledger.Seat(fmt.Sprintf("%s#%d", id, wave)), Orchestrator: id,
		Subscribes: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		URLs:       urls, Secret: cluster.Secret,
	}}
	seat.rename()
	return seat
}

// rename gives the daemon its next id. Those that keep their id over a shift
// keep it for the whole run.
func (s *seat) rename() {
	s.profile.Daemon = protocol.DaemonID(fmt.Sprintf("daemon-of-%s", s.profile.Seat))
	if s.habit == renaming {
		s.name++
		s.profile.Daemon += protocol.DaemonID(fmt.Sprintf("-%d-%d", s.shift.w.shifts, s.name))
	}
}

func (s *seat) enter() (err error) {
	s.daemon, err = traffic.StartDaemon(s.shift.ledger, s.profile)
	return err
}

// wander comes and goes, and is there in the end.
func (s *seat) wander(ctx context.Context, random *rand.Rand) {
	for s.habit != steady {
		wait(ctx, 5*time.Second+time.Duration(random.IntN(50_000))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		if s.habit == restless && random.IntN(3) == 0 {
			s.daemon.Cut()
			continue
		}
		s.quit()
		s.rename()
		wait(ctx, time.Duration(random.IntN(3000))*time.Millisecond)
		if err := s.enter(); err != nil {
			panic(err) // a configuration that was good before
		}
	}
}

// quit leaves. A daemon that the gateway had sent away for good is a finding.
func (s *seat) quit() {
	if s.daemon == nil {
		return
	}
	if err := s.daemon.Stop(); err != nil {
		s.shift.w.breach(fmt.Sprintf("daemon %s was sent away for good: %v", s.profile.Daemon, err))
	}
	s.daemon = nil
}

// leave has everybody go, at the end of a shift.
func (s *shift) leave() {
	var tasks sync.WaitGroup
	for _, seat := range s.seats {
		tasks.Go(seat.quit)
	}
	tasks.Wait()
}
