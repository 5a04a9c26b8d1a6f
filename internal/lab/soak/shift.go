package soak

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// record is how often the log is looked at: an event must be seen there before
	// newer ones of its orchestrator have pushed it out.
	record = 20 * time.Second
	// stay is how long daemons that come and go are there, about.
	stay = 50 * time.Second
)

// promise is what a shift is held to.
var promise = ledger.Promise{PublishOrder: true}

// counts is what was done over all shifts.
type counts struct {
	published, connections, receipts, acks, repeats int
}

func (c counts) String() string {
	return fmt.Sprintf("%d events published, %d connections, %d receipts, %d acks, %d repeats",
		c.published, c.connections, c.receipts, c.acks, c.repeats)
}

// work is one shift: daemons come, events are published for as long as was
// asked, everything is delivered and judged, and everybody leaves. The
// orchestrators are always the same, so that nothing grows by their number. An
// event that comes again in a later shift, although its ack was written when its
// daemon left, is found: that shift's ledger does not know it.
func (s *soak) work(ctx context.Context, length time.Duration) error {
	if err := s.Anew(); err != nil {
		return err
	}
	s.layOut()
	if err := s.Enter(ctx, s.Crowd.Seats()...); err != nil {
		return err
	}
	s.Crowd.Stir()
	s.publish()
	if err := s.watch(ctx, length); err != nil {
		return err
	}
	s.Crowd.Calm()
	bounded, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	if err := errors.Join(s.Feed.Finish(bounded), s.Settle(ctx, promise)); err != nil {
		return err
	}
	s.awaitQuiet(bounded)
	s.Crowd.Close()
	s.judge()
	return nil
}

// layOut makes the seats: every second orchestrator has one, the others two.
// Those that are steady or restless keep their ids for the whole run.
func (s *soak) layOut() {
	habits := []string{traffic.Steady, traffic.Restless, traffic.Renaming}
	for i := range s.options.orchestrators() {
		for range 1 + i%2 {
			habit := traffic.Habit{Name: habits[i/2%len(habits)]}
			if habit.Name != traffic.Steady {
				random := s.Random(uint64(s.shifts)<<32 + uint64(len(s.Crowd.Seats())))
				habit = traffic.Wandering(habit.Name, random, stay)
			}
			seat := s.Crowd.Add(orchestrator(i), habit)
			if habit.Name == traffic.Renaming {
				seat.Profile.Daemon += protocol.DaemonID(fmt.Sprintf("-%d", s.shifts))
			}
		}
	}
}

// orchestrators is how many share the daemons; even, since half of them are
// published to on Redis.
func (o options) orchestrators() int { return max(1, o.daemons/3) * 2 }

func orchestrator(i int) protocol.OrchestratorID {
	return protocol.OrchestratorID(fmt.Sprintf("soak-%d", i))
}

// publish begins to publish: for orchestrators of even number on Redis, for the
// others straight into the log, so that the order of each is its publisher's.
func (s *soak) publish() {
	for _, way := range []traffic.Way{traffic.OnRedis, traffic.IntoLog} {
		n := int(way)
		s.Feed.Start(traffic.Author{Way: way, Every: 2 * time.Second / time.Duration(s.options.rate), Next: func(time.Time) event.Event {
			defer func() { n += 2 }()
			return s.event(n)
		}})
	}
}

func (s *soak) event(n int) event.Event {
	e := traffic.Message(orchestrator(n%s.options.orchestrators()), fmt.Sprintf("event-%d-%d", s.shifts, n),
		fmt.Appendf(nil, `{"n":%d,"content":"Could you have a look at the quarterly numbers before the meeting?"}`, n))
	e.RequiresAck, e.ChannelID = n%5 > 0, "channel-general"
	return e
}

// watch tells the ledger what the log holds, again and again while they work.
func (s *soak) watch(ctx context.Context, length time.Duration) error {
	for end := time.Now().Add(length); time.Until(end) > 0; {
		traffic.Wait(ctx, min(record, time.Until(end)))
		if err := s.Record(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// quiet is how long nothing must come before a shift is over. Where a daemon has
// a new id, one of its orchestrator must have each event, and the others may be
// waited for in vain; what they had not got would come in the next shift.
const quiet = 5 * time.Second

func (s *soak) awaitQuiet(ctx context.Context) {
	last, since := 0, time.Now()
	for ctx.Err() == nil && time.Since(since) < quiet {
		traffic.Wait(ctx, 250*time.Millisecond)
		now := 0
		for _, seat := range s.Crowd.Seats() {
			received, acked := s.Ledger.Progress(seat.Profile.Seat)
			now += received + acked
		}
		if now != last {
			last, since = now, time.Now()
		}
	}
}

func (s *soak) judge() {
	r := s.Judge(promise)
	s.counts.published += r.Published
	s.counts.connections += r.Connections
	s.counts.receipts += r.Receipts
	s.counts.acks += r.Acks
	s.counts.repeats += r.Repeats
	s.Say("shift %d: %s", s.shifts, r)
	s.shifts++
}
