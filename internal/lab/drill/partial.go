package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// oneDisk loses what one of three NATS servers keeps. Nothing has to be restored.
func oneDisk(ctx context.Context, w *world) error {
	c, err := newCrew(ctx, w, "disk")
	if err != nil {
		return err
	}
	defer c.leave()
	wait(ctx, w.options.publish/2)
	began, server := time.Now(), w.NATS[1]
	server.Kill()
	if err := os.RemoveAll(server.Data); err != nil {
		return err
	}
	w.report.step(began, "disaster: %s killed, its data deleted", server.Name())
	wait(ctx, w.options.publish/2)
	began = time.Now()
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	crashes, err := supervise(bounded, server)
	if err != nil {
		return err
	}
	var lagging []string
	err = until(bounded, "not all replicas are current", func() (bool, error) {
		var err error
		lagging, err = w.lagging(bounded)
		return len(lagging) == 0, err
	})
	if err != nil {
		return fmt.Errorf("%w: %v", err, lagging)
	}
	w.report.step(began, "%s started with an empty disk, and every stream has three current replicas again%s", server.Name(), crashes)
	if err := c.wake(); err != nil {
		return err
	}
	return c.judge(ctx, time.Time{}, nil)
}

// supervise starts a NATS server, and again when it ends by itself, as
// Kubernetes and systemd do, until it is ready. It tells of these ends.
func supervise(ctx context.Context, server *process.NATS) (crashes string, err error) {
	const most = 5
	for n := range most {
		if n > 0 {
			crashes = fmt.Sprintf(" (it crashed %d times, and was started again)", n)
		}
		if err = server.Start(); err != nil {
			return crashes, err
		}
		if err = server.AwaitReady(ctx); err == nil || server.Running() {
			return crashes, err
		}
	}
	return crashes, err
}

// nothingLeft loses all of JetStream, of which there is no backup, while the
// gateway runs.
func nothingLeft(ctx context.Context, w *world) error {
	c, err := newCrew(ctx, w, "nothing")
	if err != nil {
		return err
	}
	defer c.leave()
	if err := c.sleep(); err != nil {
		return err
	}
	wait(ctx, w.options.publish)
	disaster := time.Now()
	for _, s := range w.NATS {
		s.Kill()
	}
	if err := w.loseNATS(); err != nil {
		return err
	}
	w.report.step(disaster, "disaster: all NATS servers killed, their data deleted")
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.StartNATS(bounded); err != nil {
		return err
	}
	w.report.step(disaster, "3 empty NATS servers started")
	c.ledger.LogLost() // what edges had in hand has been sent
	if err := c.takesEvents(bounded); err != nil {
		return err
	}
	w.report.step(disaster, "the gateway has made its streams anew, and takes events")
	taken := time.Now()
	if err := c.wake(); err != nil {
		return err
	}
	wait(ctx, w.options.publish/2)
	if err := c.press.finish(ctx, time.Time{}); err != nil {
		return err
	}
	if err := c.press.stored(ctx, taken); err != nil {
		return err
	}
	if err := c.awaitDelivered(ctx); err != nil {
		return err
	}
	stored := func(x *publication) bool { return c.ledger.IsStored(x.event.OrchestratorID, x.event.ID) }
	before := c.press.between(time.Time{}, disaster)
	var waiting []*publication
	for _, x := range before {
		if !x.seat.ackedBy(x.event.ID, disaster) {
			waiting = append(waiting, x)
		}
	}
	w.report.price(len(waiting), len(missing(waiting, stored)), "published before the disaster and not acknowledged by then")
	after := c.press.since(taken)
	w.report.promise(len(after), missing(after, func(x *publication) bool { return x.seat.ackedBy(x.event.ID, time.Now()) }), "published afterwards: delivered, after %d ms at most", slowest(after).Milliseconds())
	gone := map[string]bool{}
	for _, id := range missing(before, stored) {
		gone[id] = true
	}
	// An edge that has nobody of a partition may learn of its new epoch after a
	// daemon has come, which is then sent all again.
	twice := 0
	err = c.judge(ctx, taken, func(v ledger.Violation) bool {
		if v.Kind == ledger.Repeated {
			twice++
		}
		return v.Kind == ledger.Repeated || v.Kind == ledger.Unstored && gone[v.Event]
	})
	w.report.add(row{step: "came twice to daemons that connected before their edge knew of the new epoch", events: twice, lost: "0"})
	return err
}

// takesEvents waits until the log has acknowledged an event of each orchestrator
// whose publisher hears of that, as of now.
func (c *crew) takesEvents(ctx context.Context) error {
	from := time.Now()
	return until(ctx, "the log takes no events", func() (bool, error) {
		taken := map[*seat]bool{}
		for _, x := range c.press.since(time.Time{}) {
			if c.press.ackedAfter(x, from) {
				taken[x.seat] = true
			}
		}
		return len(taken) == len(c.seats)/2, nil
	})
}
