package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// began is when the fault of these tests begins.
var began = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// streamOf makes a stream with one seat. Each pair is when an event was due and
// when it came, in milliseconds after the fault began.
func streamOf(onRedis bool, pairs ...[2]int) *stream {
	s := &stream{onRedis: onRedis}
	s.seats = []*seat{{stream: s}}
	for _, p := range pairs {
		came := began.Add(time.Duration(p[1]) * time.Millisecond)
		s.events = append(s.events, occurrence{
			due: began.Add(time.Duration(p[0]) * time.Millisecond), stored: came, received: []time.Time{came},
		})
	}
	return s
}

func everybody(*seat) bool { return true }

func TestDeliveryIsBackWhenTheLastLateEventHasCome(t *testing.T) {
	t.Parallel()
	w := &world{streams: []*stream{
		streamOf(true, [2]int{-5000, -1000}, [2]int{100, 2300}, [2]int{1900, 2401}, [2]int{2000, 2499}, [2]int{2400, 2410}),
		streamOf(false, [2]int{100, 1100}),
	}}
	m := w.evaluate(began, everybody)
	require.Equal(t, 2401*time.Millisecond, m.back, "what was late before the fault is not its doing, what is live is no gap")
	require.Equal(t, 1100*time.Millisecond, m.stored, "only publishers on JetStream know")
}

func TestAnEventInFlightWhenTheFaultBeginsCounts(t *testing.T) {
	t.Parallel()
	w := &world{streams: []*stream{streamOf(true, [2]int{-100, 700})}}
	require.Equal(t, 700*time.Millisecond, w.evaluate(began, everybody).back)
}

func TestThereIsNoGapWhereNothingWasLate(t *testing.T) {
	t.Parallel()
	w := &world{streams: []*stream{streamOf(true, [2]int{100, 500}, [2]int{200, 510})}}
	m := w.evaluate(began, everybody)
	require.Zero(t, m.back)
	require.Equal(t, "no gap", seconds(m.back))
	require.Equal(t, []time.Duration{400 * time.Millisecond, 310 * time.Millisecond}, m.concerned)
}

func TestADaemonsOwnWaitIsShownApart(t *testing.T) {
	t.Parallel()
	slow, fast := streamOf(true, [2]int{100, 3000}), streamOf(true, [2]int{100, 2000})
	slow.seats[0].waits = []waited{
		{began.Add(-time.Second), time.Minute},
		{began.Add(10 * time.Millisecond), 2 * time.Second},
		{began.Add(2100 * time.Millisecond), 500 * time.Millisecond},
	}
	m := (&world{streams: []*stream{slow, fast}}).evaluate(began, everybody)
	require.Equal(t, 3*time.Second, m.back)
	require.Equal(t, 2*time.Second, m.backBesides, "of the daemon that did not wait")
}

func TestLatenciesAreOfTheTimeUntilDeliveryIsBack(t *testing.T) {
	t.Parallel()
	s := streamOf(true, [2]int{-300, -290}, [2]int{-200, 4000}, [2]int{3900, 3910}, [2]int{4100, 4101})
	other := streamOf(true, [2]int{1000, 1005})
	m := (&world{streams: []*stream{s, other}}).evaluate(began, func(x *seat) bool { return x.stream == s })
	require.Equal(t, []time.Duration{4200 * time.Millisecond, 10 * time.Millisecond}, m.concerned)
	require.Equal(t, []time.Duration{5 * time.Millisecond}, m.others)
}

func TestWhatHasNotComeIsOverdue(t *testing.T) {
	t.Parallel()
	s := streamOf(true, [2]int{0, 700}, [2]int{1000, 0})
	s.events[1].received[0] = time.Time{}
	w := &world{streams: []*stream{s}}
	overdue, last := w.late(began, began.Add(1400*time.Millisecond))
	require.False(t, overdue)
	require.Equal(t, began.Add(700*time.Millisecond), last)
	overdue, _ = w.late(began, began.Add(1501*time.Millisecond))
	require.True(t, overdue)
}

func TestFaultsAreChosenByPattern(t *testing.T) {
	t.Parallel()
	chosen, err := choose("edge-*,none")
	require.NoError(t, err)
	var names []string
	for _, f := range chosen {
		names = append(names, f.name)
	}
	require.Equal(t, []string{"none", "edge-killed", "edge-restarted"}, names)
	_, err = choose("edge")
	require.ErrorContains(t, err, `no fault matches "edge"`)
}
