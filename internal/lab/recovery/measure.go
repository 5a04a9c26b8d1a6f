package recovery

import (
	"context"
	"fmt"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
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
func (r *recovery) measure(ctx context.Context, f fault) (measurement, error) {
	if err := r.repair(ctx); err != nil {
		return measurement{}, err
	}
	targets, concerned, err := f.targets(ctx, r)
	if err != nil {
		return measurement{}, err
	}
	began := time.Now()
	if err := r.strike(ctx, f, targets); err != nil {
		return measurement{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	if err := r.awaitQuiet(bounded, began.Add(atLeast), began); err != nil {
		return measurement{}, err
	}
	r.noteStored(began.Add(-inFlight))
	return r.evaluate(began, concerned), nil
}

// awaitQuiet waits until a time, and until nothing has been late for a while.
// Nothing of what was due from a time on may be missing then.
func (r *recovery) awaitQuiet(ctx context.Context, until, from time.Time) error {
	traffic.Wait(ctx, time.Until(until))
	return traffic.Until(ctx, "delivery is live", func() (bool, error) {
		now := time.Now()
		start := now.Add(-quiet - live)
		if !from.IsZero() && from.Before(start) {
			start = from
		}
		late, when := r.late(start, now)
		return !late && now.Sub(when) >= quiet, nil
	})
}

// late reports whether an event due from a time on is overdue, and when the
// last one that was late has come.
func (r *recovery) late(from, now time.Time) (overdue bool, last time.Time) {
	for _, s := range r.streams {
		for _, d := range s.since(from) {
			for _, received := range d.received {
				switch {
				case received.IsZero():
					overdue = overdue || now.Sub(d.due) > live
				case received.Sub(d.due) > live && received.After(last):
					last = received
				}
			}
		}
	}
	return overdue, last
}

// evaluate looks at what was due around and after a fault; all of it has come.
func (r *recovery) evaluate(began time.Time, concerned concerned) (m measurement) {
	for _, s := range r.streams {
		deliveries := s.since(began.Add(-inFlight))
		for i, x := range s.daemons {
			back := backAfter(began, deliveries, func(d delivery) time.Time { return d.received[i] })
			m.back = max(m.back, back)
			m.backBesides = max(m.backBesides, back-x.waitedSince(began))
		}
		if s.way == traffic.IntoLog {
			m.stored = max(m.stored, backAfter(began, deliveries, func(d delivery) time.Time { return d.stored }))
		}
	}
	meantime := max(m.back, quiet)
	for _, s := range r.streams {
		for i, x := range s.daemons {
			into := &m.others
			if concerned(x) {
				into = &m.concerned
			}
			*into = append(*into, latencies(began, meantime, s.since(began.Add(-inFlight)), i)...)
		}
	}
	return m
}

// backAfter returns when the last late event came, after began; 0 if none was.
func backAfter(began time.Time, deliveries []delivery, came func(delivery) time.Time) (back time.Duration) {
	for _, d := range deliveries {
		if at := came(d); at.After(began) && at.Sub(d.due) > live {
			back = max(back, at.Sub(began))
		}
	}
	return back
}

// latencies are those of what the i-th daemon was due from just before began
// until the meantime was over.
func latencies(began time.Time, meantime time.Duration, deliveries []delivery, i int) (all []time.Duration) {
	for _, d := range deliveries {
		if at := d.received[i]; at.After(began) && d.due.Before(began.Add(meantime)) {
			all = append(all, at.Sub(d.due))
		}
	}
	return all
}
