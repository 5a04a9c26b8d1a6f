package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// record is how often the log is looked at: an event must be seen there before
// newer ones of its orchestrator have pushed it out.
const record = 20 * time.Second

// counts is what was done over all shifts.
type counts struct {
	published, connections, receipts, acks, repeats int
}

func (c counts) String() string {
	return fmt.Sprintf("%d events published, %d connections, %d receipts, %d acks, %d repeats",
		c.published, c.connections, c.receipts, c.acks, c.repeats)
}

// shift is a time after which everything is delivered, everybody has left, and
// all was judged. The orchestrators are always the same, so that nothing grows
// by their number. An event that comes again in a later shift, although its ack
// was written when its daemon left, is found: that shift's ledger does not know it.
type shift struct {
	w         *world
	ledger    *ledger.Ledger
	publisher *traffic.Publisher
	seats     []*seat
}

// work is one shift: daemons come, events are published for as long as was
// asked, and everything is judged.
func (w *world) work(ctx context.Context, length time.Duration) error {
	l := ledger.New()
	s := &shift{w: w, ledger: l, publisher: traffic.NewPublisher(l, w.Redis.Addr)}
	defer func() { _ = s.publisher.Close() }()
	if err := s.enter(ctx); err != nil {
		s.leave()
		return err
	}
	working, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var tasks sync.WaitGroup
	var unpublished, unrecorded error
	for i, seat := range s.seats {
		random := rand.New(rand.NewPCG(uint64(w.shifts), uint64(i)))
		tasks.Go(func() { seat.wander(working, random) })
	}
	tasks.Go(func() { unpublished = s.publish(working) })
	tasks.Go(func() { unrecorded = s.watch(ctx, working) })
	tasks.Wait()
	err := firstOf(ctx.Err(), unpublished, unrecorded)
	if err == nil {
		err = s.settle(ctx)
	}
	s.leave()
	if err != nil {
		return err
	}
	w.shifts++
	w.judge(l.Check(s.promise()))
	return nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *shift) promise() ledger.Promise { return ledger.Promise{PublishOrder: true} }

// publish publishes at a steady rate: for orchestrators of even number on Redis,
// for the others straight into the log, so that the order of each is its publisher's.
func (s *shift) publish(ctx context.Context) error {
	tick := time.NewTicker(time.Second / time.Duration(s.w.options.rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n := s.w.events
		s.w.events++
		to := n % s.w.options.orchestrators()
		e := []event.Event{{
			ID: fmt.Sprintf("event-%d", n), Type: "message.received", OrchestratorID: orchestrator(to), RequiresAck: n%5 > 0,
			Payload:   fmt.Appendf(nil, `{"n":%d,"content":"Could you have a look at the quarterly numbers before the meeting?"}`, n),
			Timestamp: "2026-11-22T10:00:00.000Z", ChannelID: "channel-general",
		}}
		var err error
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		if to%2 == 0 {
			err = s.publisher.Publish(bounded, e)
		} else {
			err = s.w.log.Publish(bounded, s.ledger, e, partitions)
		}
		cancel()
		if err != nil {
			return err
		}
	}
}

// watch tells the ledger what the log holds, again and again while they work.
func (s *shift) watch(ctx, working context.Context) error {
	for {
		wait(working, record)
		if working.Err() != nil {
			return nil
		}
		if err := s.w.log.Record(ctx, s.ledger, partitions); err != nil {
			return err
		}
	}
}

// settle waits until nothing is missing; what is missing then is for the judge.
func (s *shift) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// What bridges have been given is in the log before it is missed.
	for ctx.Err() == nil {
		if err := s.w.log.Record(ctx, s.ledger, partitions); err != nil {
			return err
		}
		if len(s.ledger.Check(s.promise()).Violations) == 0 {
			break
		}
		wait(ctx, time.Second)
	}
	s.awaitQuiet(ctx)
	return nil
}

// quiet is how long nothing must come before a shift is over. Where a daemon has
// a new id, one of its orchestrator must have each event, and the others may be
// waited for in vain; what they had not got would come in the next shift.
const quiet = 5 * time.Second

func (s *shift) awaitQuiet(ctx context.Context) {
	last, since := 0, time.Now()
	for ctx.Err() == nil && time.Since(since) < quiet {
		wait(ctx, 250*time.Millisecond)
		now := 0
		for _, seat := range s.seats {
			received, acked := s.ledger.Progress(seat.profile.Seat)
			now += received + acked
		}
		if now != last {
			last, since = now, time.Now()
		}
	}
}

func (w *world) judge(r ledger.Report) {
	w.counts.published += r.Published
	w.counts.connections += r.Connections
	w.counts.receipts += r.Receipts
	w.counts.acks += r.Acks
	w.counts.repeats += r.Repeats
	for _, v := range r.Violations {
		w.breach(fmt.Sprintf("shift %d: %s", w.shifts, v))
	}
	w.say("shift %d: %s", w.shifts, r)
}

func orchestrator(i int) protocol.OrchestratorID {
	return protocol.OrchestratorID(fmt.Sprintf("soak-%d", i))
}
