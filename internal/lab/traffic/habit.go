package traffic

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Habit is how the daemons of a seat behave. A scenario makes its own; without
// Move they stay, and without Handle they acknowledge whatever they get.
type Habit struct {
	// Name tells habits apart, see Crowd.Seats.
	Name string
	// Move comes and goes, again and again, until ctx ends.
	Move func(ctx context.Context, s *Seat)
	// Handle is what the daemon in a seat does with an event, see client.Config.
	Handle func(ctx context.Context, s *Seat, e protocol.Event) error
}

// The names of habits that several scenarios have.
const (
	// Steady daemons stay.
	Steady = "steady"
	// Restless ones leave or are cut off, and come back under their ids.
	Restless = "restless"
	// Renaming ones come back under new ids where they had left.
	Renaming = "renaming"
	// Fickle ones come back under their ids and want something else, often while
	// their last connection is half-open.
	Fickle = "fickle"
)

// Wandering is the habit, of the name given, of daemons that leave or are cut
// off after about stay at most, and soon come back, to any edge.
func Wandering(name string, random *rand.Rand, stay time.Duration) Habit {
	return Habit{Name: name, Move: func(ctx context.Context, s *Seat) { wander(ctx, s, random, stay) }}
}

// away is how long at most a daemon that wanders is not there.
const away = 4 * time.Second

func wander(ctx context.Context, s *Seat, random *rand.Rand, stay time.Duration) {
	for {
		Wait(ctx, stay/10+upTo(stay, random))
		if ctx.Err() != nil {
			return
		}
		if random.IntN(3) == 0 {
			s.Cut()
			continue
		}
		s.Leave()
		if s.Habit.Name == Renaming {
			s.Rename()
		}
		s.Turn(random.IntN(len(s.crowd.urls)))
		Wait(ctx, upTo(away, random))
		if err := s.Enter(); err != nil {
			panic(err) // a configuration that was good before
		}
	}
}

// upTo draws whole milliseconds.
func upTo(d time.Duration, random *rand.Rand) time.Duration {
	return time.Duration(random.Int64N(d.Milliseconds())) * time.Millisecond
}

// Changing is the habit of fickle daemons: after about stay at most, or almost at
// once, they leave, or their machine vanishes, and soon come back, to any edge, and
// want only some of what they want otherwise, or all of that again.
func Changing(random *rand.Rand, stay time.Duration, some protocol.Subscribe) Habit {
	return Habit{Name: Fickle, Move: func(ctx context.Context, s *Seat) {
		all, next := s.Profile.Subscribes, []protocol.Subscribe{some}
		for {
			there := stay/10 + upTo(stay, random)
			if random.IntN(2) == 0 {
				there = upTo(300*time.Millisecond, random)
			}
			Wait(ctx, there)
			if ctx.Err() != nil {
				return
			}
			if random.IntN(3) == 0 {
				s.Leave()
			} else {
				s.Desert()
			}
			s.Profile.Subscribes = next
			if next = all; random.IntN(2) == 0 {
				next = []protocol.Subscribe{some}
			}
			s.Turn(random.IntN(len(s.crowd.urls)))
			Wait(ctx, upTo(away, random)/4)
			if err := s.Enter(); err != nil {
				panic(err) // a configuration that was good before
			}
		}
	}}
}
