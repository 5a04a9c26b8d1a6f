package presence

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPresenceIsComparedWithinAHeartbeatsInterval(t *testing.T) {
	t.Parallel()
	for interval, want := range map[time.Duration]time.Duration{
		0:                      compareMost, // an edge of the version before
		30 * time.Second:       compareMost,
		10 * time.Minute:       compareMost,
		15 * time.Second:       10 * time.Second,
		3 * time.Second:        compareLeast,
		100 * time.Millisecond: compareLeast,
	} {
		p := pace{least: compareLeast, most: compareMost}
		p.told(interval, time.Now())
		require.Equal(t, want, p.every(), interval)
	}
}

// While a change of the interval is rolled out edges say different things.
func TestTheShortestIntervalCountsUntilNobodyTellsItAnyMore(t *testing.T) {
	t.Parallel()
	p := pace{least: compareLeast, most: compareMost}
	now := time.Now()
	p.told(15*time.Second, now)
	p.told(30*time.Second, now)
	require.Equal(t, 10*time.Second, p.every())
	p.told(6*time.Second, now.Add(time.Second))
	require.Equal(t, 4*time.Second, p.every())
	p.told(6*time.Second, now.Add(10*time.Second))
	p.told(15*time.Second, now.Add(28*time.Second))
	require.Equal(t, 4*time.Second, p.every(), "three intervals have not passed")
	p.told(15*time.Second, now.Add(29*time.Second))
	require.Equal(t, 10*time.Second, p.every())
}
