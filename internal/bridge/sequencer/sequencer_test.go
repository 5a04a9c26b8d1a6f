package sequencer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var start = time.Unix(0, 0)

func fixedDelay(int) time.Duration { return time.Second }

func newTest(window, waiting int) *Sequencer[string] {
	return New[string](Config{Window: window, MaxWaiting: waiting, MaxBytes: 100, Delay: fixedDelay})
}

func values(s *Sequencer[string], now time.Time) (out []string, tickets []Ticket[string]) {
	for {
		t, ok := s.Next(now)
		if !ok {
			return out, tickets
		}
		out = append(out, t.Value())
		tickets = append(tickets, t)
	}
}

func TestOtherLanesGoOnWhileOneIsRetried(t *testing.T) {
	t.Parallel()
	s := newTest(10, 10)
	for _, m := range []struct{ lane, value string }{{"a", "a1"}, {"a", "a2"}, {"b", "b1"}, {"b", "b2"}} {
		require.Empty(t, s.Add(m.lane, m.value, 1))
	}
	got, tickets := values(s, start)
	require.Equal(t, []string{"a1", "b1"}, got)
	s.Retry(tickets[0], start)
	s.Done(tickets[1])
	got, _ = values(s, start)
	require.Equal(t, []string{"b2"}, got, "a waits for its time, b does not wait for a")
	wake, ok := s.WakeAt()
	require.True(t, ok)
	require.Equal(t, start.Add(time.Second), wake)
	got, tickets = values(s, wake)
	require.Equal(t, []string{"a1"}, got, "the failed one comes first")
	require.Equal(t, 1, tickets[0].Failures())
}

func TestOverflowDropsTheOldest(t *testing.T) {
	t.Parallel()
	s := newTest(1, 2)
	require.Empty(t, s.Add("a", "a1", 1))
	_, tickets := values(s, start)
	require.Empty(t, s.Add("a", "a2", 1))
	require.Empty(t, s.Add("b", "b1", 1))
	require.Equal(t, []string{"a2"}, s.Add("b", "b2", 1), "what is in flight cannot be dropped")
	require.Equal(t, []string{"b1", "b2"}, s.Add("c", "c1", 100), "bytes count too")
	require.Equal(t, []string{"huge"}, s.Add("c", "huge", 101), "what can never be held does not push out the rest")
	s.Retry(tickets[0], start)
	require.Equal(t, []string{"a1", "c1"}, s.Drain(), "a failed message is the oldest again")
	require.Zero(t, s.Len())
}
