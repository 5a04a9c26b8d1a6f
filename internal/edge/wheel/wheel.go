// Package wheel wakes connections at their times: one timer for all of them,
// because tens of thousands of runtime timers that are moved with every event
// cost more.
package wheel

import (
	"context"
	"sync"
	"time"
)

const (
	// Step is how exactly connections are woken.
	Step = 20 * time.Millisecond
	// slots times Step is how far ahead the wheel reaches, almost three minutes;
	// what lies further is woken early and waits again.
	slots = 8192
)

// Wheel rings alarms. Its methods may be called at any time; Run is called once.
//
// Its steps are counted on the monotonic clock from its start on, so that they
// go on evenly when the wall clock is set.
type Wheel struct {
	start time.Time // set once

	mu    sync.Mutex
	slots [slots][]slotEntry
	done  int64     // all slots up to this step have been emptied
	now   time.Time // of the last advance
}

type slotEntry struct {
	alarm *Alarm
	step  int64
}

// Alarm is a connection's place in the wheel. Its fields are guarded by the
// wheel's mu. It outlives the connection until its slot comes round, and lets
// go of it before.
type Alarm struct {
	ring func(now time.Time)
	// next is the step of its earliest entry, later that of one beyond: most
	// alarms are moved forward for a moment (a refill) and back again, which
	// must not leave an entry behind each time.
	next, later int64
}

// NewAlarm returns an alarm that is not set yet. What it rings is called without
// any lock of the wheel, by one goroutine for all alarms: it does not block.
func NewAlarm(ring func(now time.Time)) *Alarm { return &Alarm{ring: ring} }

// New returns a wheel that begins now.
func New(now time.Time) *Wheel { return &Wheel{start: now, now: now} }

// stepOfLocked returns the step in which a time lies. One without a monotonic
// reading, as the end of a token, is as far away as the wall clock says now. w.mu
// is held.
func (w *Wheel) stepOfLocked(t time.Time) int64 {
	return int64((w.now.Sub(w.start) + t.Sub(w.now)) / Step)
}

// Set makes sure that a rings at the given time, or a step later. It may ring
// earlier as well.
func (w *Wheel) Set(a *Alarm, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.ring == nil {
		return
	}
	step := min(max(w.stepOfLocked(at)+1, w.done+1), w.done+slots-1)
	if a.next != 0 && a.next <= step {
		return
	}
	if a.next != 0 {
		a.later = a.next
	}
	a.next = step
	slot := &w.slots[step%slots]
	*slot = append(*slot, slotEntry{a, step})
}

// Cancel makes a never ring again.
func (w *Wheel) Cancel(a *Alarm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.ring = nil
}

// Run rings alarms until the context ends.
func (w *Wheel) Run(ctx context.Context) error {
	ticker := time.NewTicker(Step)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			w.advance(time.Now())
		}
	}
}

// advance rings everything that is due. Alarms may be set while it runs.
func (w *Wheel) advance(now time.Time) {
	var due []func(time.Time)
	w.mu.Lock()
	w.now = now
	for last := w.stepOfLocked(now); w.done < last; {
		w.done++
		slot := &w.slots[w.done%slots]
		for _, e := range *slot {
			if ring := e.alarm.due(e.step); ring != nil {
				due = append(due, ring)
			}
		}
		clear(*slot)
		*slot = (*slot)[:0]
	}
	w.mu.Unlock()
	for _, ring := range due {
		ring(now)
	}
}

// due takes an entry's turn and returns what to call, nil if it was superseded.
func (a *Alarm) due(step int64) func(time.Time) {
	switch step {
	case a.next:
		a.next, a.later = a.later, 0
	case a.later:
		a.later = 0
		return nil
	default:
		return nil
	}
	return a.ring
}
