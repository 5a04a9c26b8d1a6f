package eventlog_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
)

// Partitions that do not know of one another ask together in a rush, and what
// follows from the answers is asked together as well, half an interval later.
func TestInARushAllAskAtTheSameMoments(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	puts := func(p eventlog.Pace, from time.Duration) (all []time.Duration) {
		now := start.Add(from)
		for range 4 {
			now = now.Add(p.Gather(now))
			all = append(all, now.Sub(start))
			now = now.Add(time.Millisecond) // the answer
		}
		return all
	}
	ms := func(first, second, third, fourth time.Duration) []time.Duration {
		return []time.Duration{first * time.Millisecond, second * time.Millisecond, third * time.Millisecond, fourth * time.Millisecond}
	}
	first := eventlog.Pace{First: 3 * time.Millisecond}
	require.Equal(t, ms(4, 10, 20, 30), puts(first, time.Millisecond))
	require.Equal(t, ms(12, 20, 30, 40), puts(first, 9*time.Millisecond))
	second := eventlog.Pace{First: 5 * time.Millisecond, Second: true}
	require.Equal(t, ms(6, 15, 25, 35), puts(second, time.Millisecond))
}

func TestWhereNothingWasAskedAMomentAgoNobodyWaitsForOthers(t *testing.T) {
	t.Parallel()
	p, now := eventlog.Pace{First: 3 * time.Millisecond}, time.Unix(1_000_000, 0)
	for range 3 {
		require.Equal(t, 3*time.Millisecond, p.Gather(now))
		now = now.Add(24 * time.Millisecond)
	}
}
