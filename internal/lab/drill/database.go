package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// databaseRestored loses PostgreSQL while the gateway runs, and restores all of it.
func (d *drill) databaseRestored(ctx context.Context) error {
	return d.loseDatabase(ctx, nil, func(ctx context.Context) error {
		began := time.Now()
		err := d.restart(ctx, slices.Concat(d.Routers, d.Edges))
		d.step(began, "routers and edges restarted one after the other, since they remember what the database had")
		return err
	})
}

// databaseWithoutSchema restores only Neolith's own tables.
func (d *drill) databaseWithoutSchema(ctx context.Context) error {
	return d.loseDatabase(ctx, []string{"--exclude-schema=daemon_gateway"}, func(ctx context.Context) error {
		began := time.Now()
		var shown int
		if err := d.database.Query(ctx, []any{&shown}, `with wrong as (update vps set status = 'AWAY' where status in ('ONLINE', 'BUSY') returning 1)
			select count(*) from wrong`); err != nil {
			return err
		}
		err := d.restart(ctx, slices.Concat(d.Routers, d.Edges))
		d.step(began, "`update vps set status = 'AWAY'` (%d rows); routers and edges restarted one after the other, which makes the schema", shown)
		return err
	})
}

// loseDatabase loses PostgreSQL and restores a backup that is older than what
// was lost.
func (d *drill) loseDatabase(ctx context.Context, dump []string, afterwards func(context.Context) error) error {
	if err := d.shown(ctx); err != nil {
		return err
	}
	file := d.exercise + ".dump"
	began := time.Now()
	if err := d.dump(file, dump...); err != nil {
		return err
	}
	d.step(began, "`%s`, with all daemons connected", strings.Join(append([]string{"pg_dump"}, dump...), " "))
	d.sleep()
	if err := d.shown(ctx); err != nil {
		return err
	}
	lost := time.Now()
	if err := d.database.Lose(); err != nil {
		return err
	}
	d.step(lost, "disaster: PostgreSQL killed, its data deleted; some daemons had left since the backup")
	lost = time.Now()
	traffic.Wait(ctx, d.publish/2)
	during, seen, present := d.between(lost, time.Now().Add(-redisDelay)), d.seen(), d.present()
	d.promise(len(during), missing(during, func(p traffic.Publication) bool {
		return !slices.Contains(present, string(p.Event.OrchestratorID)) || seen[p.Event.ID].CameAfter(lost)
	}), "published without PostgreSQL: delivered meanwhile")
	began = time.Now()
	if err := d.restoreDatabase(file); err != nil {
		return err
	}
	d.step(began, "an empty PostgreSQL started, `pg_restore`")
	for _, step := range []func(context.Context) error{afterwards, d.presence, d.wake, d.sessions} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return d.conclude(ctx, time.Time{}, nil)
}

// ours matches the exercise's orchestrators.
func (d *drill) ours() string { return fmt.Sprintf("vp\\_%s\\_%%", d.exercise) }

// wronglyShown returns the exercise's orchestrators of which Neolith shows a
// wrong status.
func (d *drill) wronglyShown(ctx context.Context) (ids []string, err error) {
	err = d.database.Query(ctx, []any{&ids}, `select coalesce(array_agg(id || ' is ' || status), '{}') from vps
		where id like $1 and (status in ('ONLINE', 'BUSY')) <> (id = any ($2))`, d.ours(), d.present())
	return ids, err
}

// shown waits until Neolith shows exactly those who are there.
func (d *drill) shown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	return traffic.Until(ctx, "presence is right", func() (bool, error) {
		wrong, err := d.wronglyShown(ctx)
		return len(wrong) == 0, err
	})
}

// presence waits for that for its promise.
func (d *drill) presence(ctx context.Context) error {
	began := time.Now()
	_ = d.shown(ctx)
	wrong, err := d.wronglyShown(ctx)
	if err != nil {
		return err
	}
	d.promise(-1, wrong, "Neolith shows the %d that are connected, and nobody else, after %.1f s", len(d.present()), time.Since(began).Seconds())
	return nil
}

// sessions waits until the history shows one open session for each daemon that is there.
func (d *drill) sessions(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	var open, wrong []string
	var ended int
	present := slices.Sorted(slices.Values(d.present()))
	if err := traffic.Until(ctx, "sessions are right", func() (bool, error) {
		err := d.database.Query(ctx, []any{&open, &ended}, `select
			coalesce(array_agg(orchestrator_id order by orchestrator_id) filter (where state = 'open'), '{}'), count(*) filter (where state = 'ended')
			from daemon_gateway.session_overview where orchestrator_id like $1`, d.ours())
		return slices.Equal(open, present), err
	}); err != nil {
		wrong = []string{fmt.Sprintf("open are %v", open)}
	}
	d.promise(-1, wrong, "the history shows an open session for each of the %d, and %d that have ended", len(present), ended)
	return nil
}
