package drill

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/backup"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// cursorDelay is how long an ack may take to be in the daemon's cursor.
	cursorDelay = 5 * time.Second
	// redisDelay is how long what was published on Redis may take to be in the log.
	redisDelay = 2 * time.Second
)

// restoration is an exercise from the backup to the judgement.
type restoration struct {
	*drill
	// Events that publishers repeat although the backup has them.
	storedTwice map[string]bool
	backup      backup.Manifest
	last        [partitions]uint64 // sequences before the disaster
	disaster    time.Time
	restored    time.Time
}

// everything loses all processes, and all that JetStream and PostgreSQL keep.
func (d *drill) everything(ctx context.Context) error {
	r := &restoration{drill: d, storedTwice: map[string]bool{}}
	for _, step := range []func(context.Context) error{r.backUp, r.destroy, r.restore, r.goOn, r.repeat, r.presence, r.sessions} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	// What comes of repeating, after the duplicate window, what the backup has: the
	// log has it twice.
	twofold := []ledger.Kind{ledger.Altered, ledger.Doubled, ledger.Repeated, ledger.Misordered}
	return r.conclude(ctx, r.restored, func(v ledger.Violation) bool { return r.storedTwice[v.Event] && slices.Contains(twofold, v.Kind) })
}

// backUp takes the backups while everybody works, and lets them work on.
func (r *restoration) backUp(ctx context.Context) error {
	traffic.Wait(ctx, r.publish)
	r.sleep()
	traffic.Wait(ctx, max(r.publish, cursorDelay))
	began := time.Now()
	if err := r.operate(ctx, backupTool); err != nil {
		return err
	}
	names, err := backup.Names(r.backups())
	if err != nil {
		return err
	}
	if r.backup, err = backup.Read(filepath.Join(r.backups(), names[0])); err != nil {
		return err
	}
	r.step(began, "`gatewayctl backup` under traffic: %d streams, %d messages, %d KiB", len(r.backup.Streams), r.backup.Messages(), r.backup.Bytes()>>10)
	began = time.Now()
	if err := r.dump("neolith.dump"); err != nil {
		return err
	}
	r.step(began, "`pg_dump` of the database")
	traffic.Wait(ctx, r.publish)
	return ctx.Err()
}

func (r *restoration) destroy(ctx context.Context) error {
	for p := range r.last {
		info, err := r.state(ctx, event.Partition(p))
		if err != nil {
			return err
		}
		r.last[p] = info.State.LastSeq
	}
	r.disaster = time.Now()
	r.Cluster.Close()
	r.Feed.Stop()
	err := errors.Join(r.loseNATS(), r.database.Lose())
	r.step(r.disaster, "disaster: all %d processes killed, the data of 3 NATS servers and of PostgreSQL deleted", len(r.Processes())+1)
	return err
}

// state is that of a partition's stream, with a count for each subject.
func (d *drill) state(ctx context.Context, p event.Partition) (*jetstream.StreamInfo, error) {
	s, err := d.Log.JetStream().Stream(ctx, event.StreamName(p))
	if err != nil {
		return nil, err
	}
	return s.Info(ctx, jetstream.WithSubjectFilter(event.Subject(p, "*")))
}

func (r *restoration) restore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	began := time.Now()
	if err := r.restoreDatabase("neolith.dump"); err != nil {
		return err
	}
	r.step(began, "an empty PostgreSQL started, `pg_restore`")
	began = time.Now()
	if err := r.StartNATS(ctx); err != nil {
		return err
	}
	r.step(began, "3 empty NATS servers started")
	began = time.Now()
	if err := r.operate(ctx, restoreTool); err != nil {
		return err
	}
	r.step(began, "`gatewayctl restore`")
	r.Ledger.LogLost()
	began, r.restored = time.Now(), time.Now()
	if err := r.Start(ctx); err != nil {
		return err
	}
	if err := r.AwaitClaims(ctx, r.Crowd.Present()); err != nil {
		return err
	}
	r.step(began, "bridges, routers and edges started, and all daemons back by themselves; %.0f s after the disaster", time.Since(r.disaster).Seconds())
	return nil
}

// goOn publishes at once as if nothing had been, before anybody repeats
// anything, and looks at what was restored.
func (r *restoration) goOn(ctx context.Context) error {
	before := r.between(time.Time{}, r.restored)
	if err := errors.Join(r.Record(ctx), r.wake(ctx)); err != nil {
		return err
	}
	r.startPublishing()
	traffic.Wait(ctx, r.publish/2)
	if err := r.stopPublishing(ctx, r.restored); err != nil {
		return err
	}
	unrepeated := map[string]bool{}
	for _, p := range before {
		unrepeated[p.Event.ID] = true
	}
	if err := r.Settle(ctx, ledger.Promise{Except: func(v ledger.Violation) bool { return v.Kind == ledger.Unstored && unrepeated[v.Event] }}); err != nil {
		return err
	}
	seen := r.seen()
	came := func(p traffic.Publication) bool { return seen[p.Event.ID].CameAfter(r.disaster) }
	r.restoredLog(before, seen, came)
	again := r.Feed.Since(r.restored)
	used := missing(again, func(p traffic.Publication) bool {
		at, _ := eventlog.ParsePosition(seen[p.Event.ID].Position)
		return at.Sequence > r.last[at.Partition]
	})
	r.promise(len(again), missing(again, came), "published after the restoration, %d of them at sequences that were used before: delivered, after %d ms at most",
		len(used), slowest(again, seen))
	if len(used) == 0 {
		return errors.New("no sequence was used twice: the exercise shows nothing")
	}
	return nil
}

// restoredLog looks at what was published before the disaster.
func (r *restoration) restoredLog(before []traffic.Publication, seen map[string]ledger.Delivery, came func(traffic.Publication) bool) {
	var stored, waiting, settled []traffic.Publication
	for _, p := range before {
		x := seen[p.Event.ID]
		inTime := p.Taken.Before(r.backup.Began) && !p.Taken.IsZero()
		if p.Way == traffic.OnRedis {
			inTime = p.Began.Before(r.backup.Began.Add(-redisDelay))
		}
		if inTime {
			stored = append(stored, p)
		}
		switch {
		case !r.stored(p):
		case !x.AckedBy(r.backup.Ended):
			waiting = append(waiting, p)
		case x.AckedBy(r.backup.Began.Add(-cursorDelay)):
			settled = append(settled, p)
		}
	}
	r.promise(len(stored), missing(stored, r.stored), "published before the backup: in the restored log")
	r.promise(len(waiting), missing(waiting, came), "in the backup and not acknowledged when it was taken: delivered")
	r.promise(len(settled), missing(settled, func(p traffic.Publication) bool { return !came(p) }), "in the backup and acknowledged %s before it: not delivered again", cursorDelay)
	later := r.between(r.backup.Began, r.restored)
	r.price(len(later), len(missing(later, r.stored)), "published after the backup began: not in the restored log")
}

// repeat has the publishers repeat what they have published since the backup,
// each event twice.
func (r *restoration) repeat(ctx context.Context) error {
	since := r.between(r.backup.Began, r.restored)
	for _, p := range since {
		if r.stored(p) {
			r.storedTwice[p.Event.ID] = true
		}
	}
	began := time.Now()
	before, err := r.messages(ctx)
	if err != nil {
		return err
	}
	for _, p := range since {
		if err := errors.Join(r.Feed.Publish(ctx, p.Way, p.Event), r.Feed.Publish(ctx, p.Way, p.Event)); err != nil {
			return err
		}
	}
	traffic.Wait(ctx, redisDelay)
	after, err := r.messages(ctx)
	if err != nil {
		return err
	}
	r.step(began, "publishers repeat the %d of since the backup, %d of which it holds, each twice within DUPLICATE_WINDOW: %d stored", len(since), len(r.storedTwice), after-before)
	if err := r.Settle(ctx, ledger.Promise{}); err != nil {
		return err
	}
	seen := r.seen()
	got := func(p traffic.Publication) bool { return r.stored(p) && !seen[p.Event.ID].Acked.IsZero() }
	r.promise(len(since), missing(since, got), "published after the backup began, and repeated: in the log again, and delivered")
	if stored := after - before; stored > uint64(len(since)) {
		r.Find("%d events, repeated twice within the duplicate window, were stored %d times", len(since), stored)
	}
	return nil
}

// messages counts what the log holds of the exercise, everything twice that it holds twice.
func (r *restoration) messages(ctx context.Context) (n uint64, err error) {
	for p := range event.Partition(partitions) {
		info, err := r.state(ctx, p)
		if err != nil {
			return 0, err
		}
		for _, s := range r.Crowd.Seats() {
			n += info.State.Subjects[event.Subject(p, event.TokenOf(s.Profile.Orchestrator))]
		}
	}
	return n, nil
}
