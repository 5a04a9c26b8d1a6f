package wheel

import (
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func TestTheWheelWakesNeverEarlierThanAskedNorMuchLater(t *testing.T) {
	t.Parallel()
	w := New(start)
	rung := map[time.Duration]time.Time{}
	now := start
	for _, after := range []time.Duration{-time.Second, 0, time.Millisecond, time.Second, time.Minute, 2 * time.Minute} {
		a := NewAlarm(func(at time.Time) { rung[after] = at })
		w.Set(a, now.Add(after))
	}
	for ; now.Before(start.Add(3 * time.Minute)); now = now.Add(7 * time.Millisecond) {
		w.advance(now)
	}
	require.Len(t, rung, 6)
	for after, at := range rung {
		late := at.Sub(start.Add(max(0, after)))
		require.GreaterOrEqual(t, late, time.Duration(0), after)
		require.LessOrEqual(t, late, 3*Step, after)
	}
}

func TestAnAlarmBeyondTheWheelRingsEarlyAndIsSetAgain(t *testing.T) {
	t.Parallel()
	w := New(start)
	target := start.Add(10 * time.Minute)
	var a Alarm
	var rang time.Time
	a.ring = func(at time.Time) {
		if at.Before(target) {
			w.Set(&a, target)
			return
		}
		rang = at
	}
	w.Set(&a, target)
	for now := start; now.Before(target.Add(time.Second)); now = now.Add(Step) {
		w.advance(now)
	}
	require.False(t, rang.IsZero())
}

// Random wishes, each of which must be followed by a ring in time, without
// entries piling up: a connection asks for a moment and then for later again
// with every refill.
func TestAlarmsThatMoveForwardAndBack(t *testing.T) {
	t.Parallel()
	w := New(start)
	now := start
	due := now.Add(30 * time.Second)
	var a Alarm
	a.ring = func(at time.Time) {
		if !at.Before(due) {
			due = at.Add(30 * time.Second)
		}
		w.Set(&a, due)
	}
	w.Set(&a, due)
	for range 20_000 {
		now = now.Add(Step)
		w.advance(now)
		require.False(t, now.After(due.Add(3*Step)), "missed %v at %v", due, now)
		if rand.IntN(5) == 0 {
			due = now.Add(rand.N(40 * time.Second))
			w.Set(&a, due)
		}
	}
	entries := 0
	for _, slot := range w.slots {
		entries += len(slot)
	}
	require.LessOrEqual(t, entries, 60)
}

func TestACancelledAlarmIsSilent(t *testing.T) {
	t.Parallel()
	w := New(start)
	a := NewAlarm(func(time.Time) { t.Error("rang") })
	w.Set(a, start.Add(time.Second))
	w.Cancel(a)
	w.Set(a, start.Add(time.Second))
	w.advance(start.Add(time.Minute))
}

// wallSet returns t with its wall clock set forward or back, and its monotonic
// reading as it was: what time.Now returns after NTP has set the clock.
func wallSet(t time.Time, by time.Duration) time.Time {
	const secondsAt = 30 // in the first word, above the nanoseconds
	*(*uint64)(unsafe.Pointer(&t)) += uint64(by/time.Second) << secondsAt
	return t
}

func TestAlarmsRingInTimeThoughTheWallClockIsSet(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]time.Duration{"back": -time.Hour, "forward": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			w := New(begin)
			rang := 0
			w.Set(NewAlarm(func(time.Time) { rang++ }), begin.Add(10*time.Second))
			w.advance(begin.Add(time.Second))

			require.InDelta(t, by.Seconds(), wallSet(begin, by).Round(0).Sub(begin.Round(0)).Seconds(), 0.001)
			w.advance(wallSet(begin.Add(9*time.Second), by))
			require.Zero(t, rang, "not due yet")
			later := wallSet(begin.Add(9*time.Second), by).Add(2 * time.Second)
			w.Set(NewAlarm(func(time.Time) { rang += 10 }), later)
			w.advance(wallSet(begin.Add(10*time.Second+2*Step), by))
			require.Equal(t, 1, rang)
			w.advance(later.Add(2 * Step))
			require.Equal(t, 11, rang)
		})
	}
}

// The end of a token is a time of the wall clock.
func TestAWallTimeRingsWhenTheWallClockGetsThere(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	w := New(begin)
	now := wallSet(begin.Add(time.Second), time.Hour)
	w.advance(now)
	rang := false
	w.Set(NewAlarm(func(time.Time) { rang = true }), now.Round(0).Add(10*time.Second))
	w.advance(now.Add(9 * time.Second))
	require.False(t, rang)
	w.advance(now.Add(10*time.Second + 2*Step))
	require.True(t, rang)
}
