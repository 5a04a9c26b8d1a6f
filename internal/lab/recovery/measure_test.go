package recovery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// began is when the fault of these tests begins.
var began = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// streamOf makes a stream with one daemon. Each pair is when an event was due and
// when it came, in milliseconds after the fault began.
func streamOf(way traffic.Way, pairs ...[2]int) *stream {
	s := &stream{way: way}
	s.daemons = []*daemon{{stream: s}}
	for _, p := range pairs {
		came := began.Add(time.Duration(p[1]) * time.Millisecond)
		s.deliveries = append(s.deliveries, delivery{
			due: began.Add(time.Duration(p[0]) * time.Millisecond), stored: came, received: []time.Time{came},
		})
	}
	return s
}

func everybody(*daemon) bool { return true }

func TestDeliveryIsBackWhenTheLastLateEventHasCome(t *testing.T) {
	t.Parallel()
	r := &recovery{streams: []*stream{
		streamOf(traffic.OnRedis, [2]int{-5000, -1000}, [2]int{100, 2300}, [2]int{1900, 2401}, [2]int{2000, 2499}, [2]int{2400, 2410}),
		streamOf(traffic.IntoLog, [2]int{100, 1100}),
	}}
	m := r.evaluate(began, everybody)
	require.Equal(t, 2401*time.Millisecond, m.back, "what was late before the fault is not its doing, what is live is no gap")
	require.Equal(t, 1100*time.Millisecond, m.stored, "only publishers on JetStream know")
}

func TestAnEventInFlightWhenTheFaultBeginsCounts(t *testing.T) {
	t.Parallel()
	r := &recovery{streams: []*stream{streamOf(traffic.OnRedis, [2]int{-100, 700})}}
	require.Equal(t, 700*time.Millisecond, r.evaluate(began, everybody).back)
}

func TestThereIsNoGapWhereNothingWasLate(t *testing.T) {
	t.Parallel()
	r := &recovery{streams: []*stream{streamOf(traffic.OnRedis, [2]int{100, 500}, [2]int{200, 510})}}
	m := r.evaluate(began, everybody)
	require.Zero(t, m.back)
	require.Equal(t, "no gap", gap(m.back))
	require.Equal(t, []time.Duration{400 * time.Millisecond, 310 * time.Millisecond}, m.concerned)
}

func TestADaemonsOwnWaitIsShownApart(t *testing.T) {
	t.Parallel()
	slow, fast := streamOf(traffic.OnRedis, [2]int{100, 3000}), streamOf(traffic.OnRedis, [2]int{100, 2000})
	slow.daemons[0].waits = []waited{
		{began.Add(-time.Second), time.Minute},
		{began.Add(10 * time.Millisecond), 2 * time.Second},
		{began.Add(2100 * time.Millisecond), 500 * time.Millisecond},
	}
	m := (&recovery{streams: []*stream{slow, fast}}).evaluate(began, everybody)
	require.Equal(t, 3*time.Second, m.back)
	require.Equal(t, 2*time.Second, m.backBesides, "of the daemon that did not wait")
}

func TestLatenciesAreOfTheTimeUntilDeliveryIsBack(t *testing.T) {
	t.Parallel()
	s := streamOf(traffic.OnRedis, [2]int{-300, -290}, [2]int{-200, 4000}, [2]int{3900, 3910}, [2]int{4100, 4101})
	other := streamOf(traffic.OnRedis, [2]int{1000, 1005})
	m := (&recovery{streams: []*stream{s, other}}).evaluate(began, func(d *daemon) bool { return d.stream == s })
	require.Equal(t, []time.Duration{4200 * time.Millisecond, 10 * time.Millisecond}, m.concerned)
	require.Equal(t, []time.Duration{5 * time.Millisecond}, m.others)
}

func TestWhatHasNotComeIsOverdue(t *testing.T) {
	t.Parallel()
	s := streamOf(traffic.OnRedis, [2]int{0, 700}, [2]int{1000, 0})
	s.deliveries[1].received[0] = time.Time{}
	r := &recovery{streams: []*stream{s}}
	overdue, last := r.late(began, began.Add(1400*time.Millisecond))
	require.False(t, overdue)
	require.Equal(t, began.Add(700*time.Millisecond), last)
	overdue, _ = r.late(began, began.Add(1501*time.Millisecond))
	require.True(t, overdue)
}
