package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// databaseRestored loses PostgreSQL while the gateway runs, and restores all of it.
func databaseRestored(ctx context.Context, w *world) error {
	return loseDatabase(ctx, w, "database", nil, func(ctx context.Context) error {
		began := time.Now()
		err := w.restart(ctx, slices.Concat(w.Routers, w.Edges))
		w.report.step(began, "routers and edges restarted one after the other, since they remember what the database had")
		return err
	})
}

// databaseWithoutSchema restores only Neolith's own tables.
func databaseWithoutSchema(ctx context.Context, w *world) error {
	return loseDatabase(ctx, w, "schema", []string{"--exclude-schema=daemon_gateway"}, func(ctx context.Context) error {
		began := time.Now()
		var shown int
		if err := w.database.Query(ctx, []any{&shown}, `with wrong as (update vps set status = 'OFFLINE' where status <> 'OFFLINE' returning 1)
			select count(*) from wrong`); err != nil {
			return err
		}
		err := w.restart(ctx, slices.Concat(w.Routers, w.Edges))
		w.report.step(began, "`update vps set status = 'OFFLINE'` (%d rows); routers and edges restarted one after the other, which makes the schema", shown)
		return err
	})
}

// loseDatabase loses PostgreSQL and restores a backup that is older than what is.
func loseDatabase(ctx context.Context, w *world, name string, dump []string, afterwards func(context.Context) error) error {
	c, err := newCrew(ctx, w, name)
	if err != nil {
		return err
	}
	defer c.leave()
	if err := c.shown(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := w.dump(name+".dump", dump...); err != nil {
		return err
	}
	w.report.step(began, "`%s`, with all daemons connected", strings.Join(append([]string{"pg_dump"}, dump...), " "))
	if err := c.sleep(); err != nil {
		return err
	}
	if err := c.shown(ctx); err != nil {
		return err
	}
	began = time.Now()
	if err := w.database.Lose(); err != nil {
		return err
	}
	w.report.step(began, "disaster: PostgreSQL killed, its data deleted; some daemons had left since the backup")
	lost := time.Now()
	wait(ctx, w.options.publish/2)
	during := c.press.between(lost, time.Now().Add(-heard))
	w.report.promise(len(during), missing(during, func(x *publication) bool {
		return x.seat.daemon == nil || x.seat.receivedAfter(x.event.ID, lost) > 0
	}), "published without PostgreSQL: delivered meanwhile")
	began = time.Now()
	if err := w.database.Begin(); err != nil {
		return err
	}
	if err := w.undump(name + ".dump"); err != nil {
		return err
	}
	w.report.step(began, "an empty PostgreSQL started, `pg_restore`")
	if err := afterwards(ctx); err != nil {
		return err
	}
	if err := c.presence(ctx); err != nil {
		return err
	}
	if err := c.wake(); err != nil {
		return err
	}
	if err := c.sessions(ctx); err != nil {
		return err
	}
	return c.judge(ctx, time.Time{}, nil)
}

// wrongly returns the crew's orchestrators that Neolith shows otherwise than they are.
func (c *crew) wrongly(ctx context.Context) (ids []string, err error) {
	err = c.w.database.Query(ctx, []any{&ids}, `select coalesce(array_agg(id || ' is ' || status), '{}') from vps
		where id like $1 and (status <> 'OFFLINE') <> (id = any ($2))`, fmt.Sprintf("vp\\_%s\\_%%", c.name), c.present())
	return ids, err
}

// shown waits until Neolith shows exactly those who are there.
func (c *crew) shown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return until(ctx, "presence is not right", func() (bool, error) {
		wrong, err := c.wrongly(ctx)
		return len(wrong) == 0, err
	})
}

// presence waits for that for its promise.
func (c *crew) presence(ctx context.Context) error {
	began := time.Now()
	_ = c.shown(ctx)
	wrong, err := c.wrongly(ctx)
	if err != nil {
		return err
	}
	c.w.report.promise(-1, wrong, "Neolith shows the %d that are connected, and nobody else, after %.1f s", len(c.present()), time.Since(began).Seconds())
	return nil
}

// sessions waits until the history shows one open session for each daemon that is there.
func (c *crew) sessions(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var open []string
	var ended int
	count := func() error {
		return c.w.database.Query(ctx, []any{&open, &ended}, `select
			coalesce(array_agg(orchestrator_id order by orchestrator_id) filter (where state = 'open'), '{}'), count(*) filter (where state = 'ended')
			from daemon_gateway.session_overview where orchestrator_id like $1`, fmt.Sprintf("vp\\_%s\\_%%", c.name))
	}
	present := slices.Sorted(slices.Values(c.present()))
	if err := until(ctx, "sessions are not right", func() (bool, error) { return slices.Equal(open, present), count() }); err != nil {
		c.w.report.promise(len(present), []string{fmt.Sprintf("open are %v", open)}, "the history shows their sessions")
		return nil
	}
	c.w.report.promise(-1, nil, "the history shows an open session for each of the %d, and %d that have ended", len(present), ended)
	return nil
}
