package traffic

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// The names of habits of daemons that work.
const (
	// Serial daemons take their time over each event.
	Serial = "serial"
	// Overdue ones take longer over some events than the gateway waits for an ack.
	Overdue = "overdue"
	// Batching ones acknowledge several events at once.
	Batching = "batching"
	// Posting ones acknowledge by HTTP.
	Posting = "posting"
	// Crashing ones end without a word at some events, whenever these come.
	Crashing = "crashing"
)

// Working is the habit, of the name given, of daemons that take up to most over an
// event, one in so many, and none over the others.
func Working(name string, random *rand.Rand, most time.Duration, oneIn int) Habit {
	var mu sync.Mutex // random is the seat's, and one daemon after the other has it
	draw := func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		if random.IntN(oneIn) > 0 {
			return 0
		}
		return most/2 + upTo(most/2, random)
	}
	return Habit{Name: name, Handle: func(ctx context.Context, _ *Seat, _ protocol.Event) error {
		Wait(ctx, draw())
		return ctx.Err()
	}}
}

const (
	// batchOf is how many events are acknowledged together, and batchWithin how long
	// the first of them waits for the others.
	batchOf     = 8
	batchWithin = time.Second
)

// Together is the habit of batching daemons. What the batch of one that leaves
// holds comes again.
func Together() Habit {
	var mu sync.Mutex
	var batch []string
	flush := func(s *Seat) {
		mu.Lock()
		ids := batch
		batch = nil
		mu.Unlock()
		if len(ids) > 0 {
			s.Ack(ids...)
		}
	}
	return Habit{Name: Batching, Handle: func(_ context.Context, s *Seat, e protocol.Event) error {
		mu.Lock()
		batch = append(batch, e.EventID)
		first, full := len(batch) == 1, len(batch) >= batchOf
		mu.Unlock()
		switch {
		case full:
			flush(s)
		case first:
			time.AfterFunc(batchWithin, func() { flush(s) })
		}
		return client.ErrNoAck
	}}
}

// errPosted says that an event is acknowledged already, and that nothing is to be
// remembered of it: if it comes again, the ack did not count.
var errPosted = errors.New("acknowledged by HTTP")

// ByHTTP is the habit of posting daemons.
func ByHTTP() Habit {
	return Habit{Name: Posting, Handle: func(ctx context.Context, s *Seat, e protocol.Event) error {
		d := s.Daemon()
		if d == nil || !e.RequiresAck {
			return nil
		}
		if err := d.Post(ctx, e.EventID); err != nil {
			return err
		}
		return errPosted
	}}
}

// crashed is how long at most nobody starts a daemon again that has crashed.
const crashed = time.Second

// Falling is the habit of crashing daemons: whenever such an event comes that is
// deadly, the daemon ends, and a new one with the same id begins at any edge. Once
// such an event is deadly no more, it is acknowledged.
func Falling(random *rand.Rand, deadly func(protocol.Event) bool) Habit {
	falls := make(chan struct{}, 1)
	return Habit{
		Name: Crashing,
		Move: func(ctx context.Context, s *Seat) {
			for {
				select {
				case <-ctx.Done():
					return
				case <-falls:
				}
				s.Crash()
				s.Turn(random.IntN(len(s.crowd.urls)))
				Wait(ctx, upTo(crashed, random))
				enter(s)
			}
		},
		Handle: func(ctx context.Context, _ *Seat, e protocol.Event) error {
			if !deadly(e) {
				return nil
			}
			select {
			case falls <- struct{}{}:
			default:
			}
			for deadly(e) && ctx.Err() == nil {
				Wait(ctx, crashed/10)
			}
			return ctx.Err()
		},
	}
}
