package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// live is how late an event may be for delivery to count as live.
	live = 500 * time.Millisecond
	// quiet is for how long nothing must have been late.
	quiet = 2 * time.Second
	// atLeast is how long a fault is watched in any case: a killed node is missed
	// only after some seconds.
	atLeast = 5 * time.Second
	// inFlight is how long before a fault an event may have been due that it hit.
	inFlight = 500 * time.Millisecond
)

// measurement is one repetition of a fault.
type measurement struct {
	// back is when the last late event came, after the fault began: from then on
	// delivery was live for all. Zero: it always was.
	back time.Duration
	// backBesides is the same without the waits of the daemons' own before they
	// connected again.
	backBesides time.Duration
	// stored is when the log had stored the last event that it had held up.
	stored time.Duration
	// Latencies of what was due between the fault and that time, for the
	// daemons concerned and for the rest.
	concerned, others []time.Duration
}

// String is one line for whoever watches.
func (m measurement) String() string {
	return fmt.Sprintf("back after %s (%s without the daemons' own waits), log after %s; concerned %s; others %s",
		m.back.Round(time.Millisecond), m.backBesides.Round(time.Millisecond), m.stored.Round(time.Millisecond),
		percentiles(m.concerned), percentiles(m.others))
}

// measure does a fault once, when all is well, and looks at what it did.
func (w *world) measure(ctx context.Context, f fault) (measurement, error) {
	if err := w.repair(ctx); err != nil {
		return measurement{}, err
	}
	targets, concerned, err := f.targets(ctx, w)
	if err != nil {
		return measurement{}, err
	}
	began := time.Now()
	if err := f.strike(ctx, w, targets); err != nil {
		return measurement{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.awaitQuiet(bounded, began.Add(atLeast), began); err != nil {
		return measurement{}, err
	}
	return w.evaluate(began, concerned), nil
}

// awaitQuiet waits until a time, and until nothing has been late for a while.
// Nothing of what was due from a time on may be missing then.
func (w *world) awaitQuiet(ctx context.Context, until, from time.Time) error {
	wait(ctx, time.Until(until))
	for {
		now := time.Now()
		start := now.Add(-quiet - live)
		if !from.IsZero() && from.Before(start) {
			start = from
		}
		late, when := w.late(start, now)
		if !late && now.Sub(when) >= quiet {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("delivery is not live again: %w", context.Cause(ctx))
		}
		wait(ctx, 100*time.Millisecond)
	}
}

// late reports whether an event due from a time on is overdue, and when the
// last one that was late has come.
func (w *world) late(from, now time.Time) (overdue bool, last time.Time) {
	for _, s := range w.streams {
		for _, o := range s.since(from) {
			for _, received := range o.received {
				switch {
				case received.IsZero():
					overdue = overdue || now.Sub(o.due) > live
				case received.Sub(o.due) > live && received.After(last):
					last = received
				}
			}
		}
	}
	return overdue, last
}

// evaluate looks at what was due around and after a fault; all of it has come.
func (w *world) evaluate(began time.Time, concerned func(*seat) bool) (m measurement) {
	for _, s := range w.streams {
		events := s.since(began.Add(-inFlight))
		for _, x := range s.seats {
			back := backAfter(began, events, func(o occurrence) time.Time { return o.received[x.number] })
			m.back = max(m.back, back)
			m.backBesides = max(m.backBesides, back-x.waitedSince(began))
		}
		if !s.onRedis {
			m.stored = max(m.stored, backAfter(began, events, func(o occurrence) time.Time { return o.stored }))
		}
	}
	meantime := max(m.back, quiet)
	for _, s := range w.streams {
		for _, x := range s.seats {
			into := &m.others
			if concerned(x) {
				into = &m.concerned
			}
			*into = append(*into, latencies(began, meantime, s.since(began.Add(-inFlight)), x.number)...)
		}
	}
	return m
}

// backAfter returns when the last late event came, after began; 0 if none was.
func backAfter(began time.Time, events []occurrence, came func(occurrence) time.Time) (back time.Duration) {
	for _, o := range events {
		if at := came(o); at.After(began) && at.Sub(o.due) > live {
			back = max(back, at.Sub(began))
		}
	}
	return back
}

// latencies are those of what a seat was due from just before began until the
// meantime was over.
func latencies(began time.Time, meantime time.Duration, events []occurrence, seat int) (all []time.Duration) {
	for _, o := range events {
		if at := o.received[seat]; at.After(began) && o.due.Before(began.Add(meantime)) {
			all = append(all, at.Sub(o.due))
		}
	}
	return all
}
