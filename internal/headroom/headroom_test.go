package headroom

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheRoomFollowsWhatIsAllocated says what GOGC comes to.
func TestTheRoomFollowsWhatIsAllocated(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, c := range map[string]struct{ live, rate, want uint64 }{
		"10,000 idle connections":           {live: 100 * mib, rate: 1 * mib, want: 10},
		"the same in a rush":                {live: 100 * mib, rate: 50 * mib, want: 100},
		"50,000 idle connections":           {live: 500 * mib, rate: 4 * mib, want: 10},
		"a router at rest":                  {live: 4 * mib, rate: mib / 10, want: 100},
		"a router under load":               {live: 8 * mib, rate: 100 * mib, want: 400},
		"a process that has just begun":     {live: 0, rate: 0, want: 100},
		"1,000 connections, some events":    {live: 16 * mib, rate: 3 * mib, want: 112},
		"1,000 connections, and many of it": {live: 16 * mib, rate: 80 * mib, want: 200},
	} {
		var p pacer
		got, changed, _ := p.next(usage{allocated: c.rate, live: c.live})
		require.True(t, changed, name)
		require.EqualValues(t, c.want, got, name)
	}
}

func TestARushIsForgottenWithinSeconds(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	var p pacer
	u := usage{live: 100 * mib, allocated: 20 * mib}
	percent, _, _ := p.next(u)
	require.Equal(t, 100, percent)
	var set []int
	ended := 0
	for range 10 {
		percent, changed, over := p.next(u)
		if changed {
			set = append(set, percent)
		}
		if over {
			ended++
			require.Equal(t, 10, percent)
		}
	}
	require.Equal(t, []int{60, 30, 15, 10}, set)
	require.Equal(t, 1, ended)
}

func TestSmallChangesAreNotSet(t *testing.T) {
	t.Parallel()
	var p pacer
	u := usage{live: 100 << 20}
	_, changed, _ := p.next(u)
	require.True(t, changed)
	u.live += 1 << 20
	_, changed, over := p.next(u)
	require.False(t, changed)
	require.False(t, over)
}
