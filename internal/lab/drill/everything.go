package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
)

const (
	// written is how long an ack may take to be in the daemon's cursor.
	written = 5 * time.Second
	// heard is how long what was published on Redis may take to be in the log.
	heard = 2 * time.Second
)

// recovery is an exercise from the backup to the judgement.
type recovery struct {
	*crew
	held     map[string]bool // events that publishers repeat although the backup has them
	backup   backup.Manifest
	last     [partitions]uint64 // before the disaster
	disaster time.Time
	restored time.Time
}

// everything loses all processes, and all that JetStream and PostgreSQL keep.
func everything(ctx context.Context, w *world) error {
	c, err := newCrew(ctx, w, "everything")
	if err != nil {
		return err
	}
	defer c.leave()
	r := &recovery{crew: c}
	for _, step := range []func(context.Context) error{r.backUp, r.destroy, r.restore, r.goOn, r.repeat} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := c.presence(ctx); err != nil {
		return err
	}
	if err := c.sessions(ctx); err != nil {
		return err
	}
	return c.judge(ctx, r.restored, r.expected)
}

// backUp takes the backups while everybody works, and lets them work on.
func (r *recovery) backUp(ctx context.Context) error {
	wait(ctx, r.w.options.publish)
	if err := r.sleep(); err != nil {
		return err
	}
	wait(ctx, max(r.w.options.publish, written))
	began := time.Now()
	if err := r.w.operate(ctx, r.w.programs.backup); err != nil {
		return err
	}
	names, err := backup.Names(r.w.backups())
	if err != nil {
		return err
	}
	if r.backup, err = backup.Read(filepath.Join(r.w.backups(), names[0])); err != nil {
		return err
	}
	r.w.report.step(began, "`gateway-backup` under traffic: %d streams, %d messages, %d KiB", len(r.backup.Streams), r.backup.Messages(), r.backup.Bytes()>>10)
	began = time.Now()
	if err := r.w.dump("neolith.dump"); err != nil {
		return err
	}
	r.w.report.step(began, "`pg_dump` of the database")
	wait(ctx, r.w.options.publish)
	return ctx.Err()
}

func (r *recovery) destroy(ctx context.Context) (err error) {
	if r.last, err = r.w.last(ctx); err != nil {
		return err
	}
	r.disaster = time.Now()
	r.w.Cluster.Close()
	r.press.stop()
	err = errors.Join(r.w.loseNATS(), r.w.database.Lose())
	r.w.report.step(r.disaster, "disaster: all %d processes killed, the data of 3 NATS servers and of PostgreSQL deleted", len(r.w.Processes())+1)
	return err
}

func (r *recovery) restore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	if err := r.w.database.Begin(); err != nil {
		return err
	}
	if err := r.w.undump("neolith.dump"); err != nil {
		return err
	}
	r.w.report.step(began, "an empty PostgreSQL started, `pg_restore`")
	began = time.Now()
	if err := r.w.StartNATS(ctx); err != nil {
		return err
	}
	r.w.report.step(began, "3 empty NATS servers started")
	began = time.Now()
	if err := r.w.operate(ctx, r.w.programs.restore); err != nil {
		return err
	}
	r.w.report.step(began, "`gateway-restore`")
	r.ledger.LogLost()
	began, r.restored = time.Now(), time.Now()
	if err := r.w.Start(ctx); err != nil {
		return err
	}
	if err := r.awaitConnected(ctx); err != nil {
		return err
	}
	r.w.report.step(began, "bridges, routers and edges started, and all daemons back by themselves; %.0f s after the disaster", time.Since(r.disaster).Seconds())
	return nil
}

// goOn publishes at once as if nothing had been, before anybody repeats
// anything, and looks at what was restored.
func (r *recovery) goOn(ctx context.Context) error {
	before := r.press.since(time.Time{})
	if err := r.w.log.Record(ctx, r.ledger, partitions); err != nil {
		return err
	}
	if err := r.wake(); err != nil {
		return err
	}
	r.press.start()
	wait(ctx, r.w.options.publish/2)
	r.press.stop()
	if err := errors.Join(r.press.finish(ctx, r.restored), r.press.stored(ctx, r.restored), r.awaitDelivered(ctx)); err != nil {
		return err
	}
	r.restoredLog(before)
	again := r.press.since(r.restored)
	var used int
	for _, x := range again {
		if at := x.seat.standsAt(x.event.ID); at.Sequence <= r.last[at.Partition] {
			used++
		}
	}
	r.w.report.promise(len(again), missing(again, r.came), "published after the restoration, %d of them at sequences that were used before: delivered, after %d ms at most", used, slowest(again).Milliseconds())
	if used == 0 {
		return errors.New("no sequence was used twice: the exercise shows nothing")
	}
	return nil
}

// came reports whether an event has come since the disaster.
func (r *recovery) came(x *publication) bool { return x.seat.receivedAfter(x.event.ID, r.disaster) > 0 }

func (r *recovery) stands(x *publication) bool {
	return r.ledger.IsStored(x.event.OrchestratorID, x.event.ID)
}

// restoredLog looks at what was published before the disaster.
func (r *recovery) restoredLog(before []*publication) {
	var stored, waiting, settled []*publication
	for _, x := range before {
		id := x.event.ID
		if x.acked.Before(r.backup.Began) && !x.acked.IsZero() || onRedis(x.seat) && x.began.Before(r.backup.Began.Add(-heard)) {
			stored = append(stored, x)
		}
		switch {
		case !r.stands(x):
		case !x.seat.ackedBy(id, r.backup.Ended):
			waiting = append(waiting, x)
		case x.seat.ackedBy(id, r.backup.Began.Add(-written)):
			settled = append(settled, x)
		}
	}
	report := r.w.report
	report.promise(len(stored), missing(stored, r.stands), "published before the backup: in the restored log")
	report.promise(len(waiting), missing(waiting, r.came), "in the backup and not acknowledged when it was taken: delivered")
	report.promise(len(settled), missing(settled, func(x *publication) bool { return !r.came(x) }), "in the backup and acknowledged %s before it: not delivered again", written)
	later := r.press.between(r.backup.Began, r.restored)
	report.price(len(later), len(missing(later, r.stands)), "published after the backup began: not in the restored log")
}

// repeat has the publishers repeat what they have published since the backup, twice.
func (r *recovery) repeat(ctx context.Context) error {
	since := r.press.between(r.backup.Began, r.restored)
	r.held = make(map[string]bool)
	for _, x := range since {
		if r.stands(x) {
			r.held[x.event.ID] = true
		}
	}
	began := time.Now()
	var stored [2]uint64
	for i := range stored {
		before, err := r.stored(ctx)
		if err != nil {
			return err
		}
		if err := r.press.repeat(ctx, since); err != nil {
			return err
		}
		wait(ctx, heard)
		after, err := r.stored(ctx)
		if err != nil {
			return err
		}
		stored[i] = after - before
	}
	r.w.report.step(began, "publishers repeat the %d of since the backup, %d of which it holds: %d stored; repeated once more, within DUPLICATE_WINDOW: %d stored",
		len(since), len(r.held), stored[0], stored[1])
	if err := r.awaitDelivered(ctx); err != nil {
		return err
	}
	got := func(x *publication) bool { return r.stands(x) && x.seat.ackedBy(x.event.ID, time.Now()) }
	r.w.report.promise(len(since), missing(since, got), "published after the backup began, and repeated: in the log again, and delivered")
	if stored[1] > 0 {
		r.w.report.broken = append(r.w.report.broken, "what was repeated within the duplicate window was stored again")
	}
	return nil
}

// expected leaves out what comes of repeating, after the duplicate window, what
// the backup has: the log has it twice.
func (r *recovery) expected(v ledger.Violation) bool {
	twofold := v.Kind == ledger.Altered || v.Kind == ledger.Doubled || v.Kind == ledger.Repeated || v.Kind == ledger.Misordered
	return r.held[v.Event] && twofold
}
