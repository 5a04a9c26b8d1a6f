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
		enter(s)
	}
}

// upTo draws whole milliseconds.
func upTo(d time.Duration, random *rand.Rand) time.Duration {
	return time.Duration(random.Int64N(d.Milliseconds())) * time.Millisecond
}

// Changing is the habit of fickle daemons: after about stay at most, or almost at
// once, they leave, or their machine vanishes, and soon come back, to any edge, and
// want only some of what they want otherwise, or all of that again. Some of those
// that want more again after they have vanished do so at once, and vanish as soon
// as they are subscribed (see glance).
func Changing(random *rand.Rand, stay time.Duration, some protocol.Subscribe) Habit {
	return Habit{Name: Fickle, Move: func(ctx context.Context, s *Seat) {
		all, less := s.Profile.Subscribes, []protocol.Subscribe{some}
		for wantsAll, next := true, false; ; {
			there := stay/10 + upTo(stay, random)
			if random.IntN(2) == 0 {
				there = upTo(300*time.Millisecond, random)
			}
			Wait(ctx, there)
			if ctx.Err() != nil {
				return
			}
			vanishes := random.IntN(3) > 0
			if vanishes {
				s.Desert()
			} else {
				s.Leave()
			}
			more := next && !wantsAll
			if wantsAll = next; wantsAll {
				s.Profile.Subscribes = all
			} else {
				s.Profile.Subscribes = less
			}
			next = !wantsAll || random.IntN(2) == 0
			s.Turn(random.IntN(len(s.crowd.urls)))
			if more && vanishes && random.IntN(3) > 0 {
				glance(ctx, s, random)
			} else {
				Wait(ctx, upTo(away, random)/4)
			}
			enter(s)
		}
	}}
}

const (
	// glanceAtMost is how long a daemon that only glances at its edge waits to be
	// subscribed.
	glanceAtMost = 5 * time.Second
	// unseen is longer than an edge waits for the other side of a connection that
	// it closes, after which it writes what became of that one.
	unseen = 6 * time.Second
)

// glance has a daemon come, and vanish as soon as it is subscribed: nothing comes
// to it, while the edge of the connection before, which wanted less, passes over
// events until it has closed that one. When the daemon comes again, all of them are
// to come to it.
func glance(ctx context.Context, s *Seat, random *rand.Rand) {
	enter(s)
	bounded, cancel := context.WithTimeout(ctx, glanceAtMost)
	defer cancel()
	_ = s.AwaitSubscribed(bounded) // or it has come in vain
	s.Desert()
	s.Turn(random.IntN(len(s.crowd.urls)))
	Wait(ctx, unseen+upTo(away, random))
}

func enter(s *Seat) {
	if err := s.Enter(); err != nil {
		panic(err) // a configuration that was good before
	}
}
