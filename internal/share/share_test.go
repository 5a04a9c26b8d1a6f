package share

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNoHolderKeepsTheNextOneOut(t *testing.T) {
	t.Parallel()
	p := New[string](64)
	most := func(holder string) (n int) {
		for p.Take(holder, 1) {
			n++
		}
		return n
	}
	require.Equal(t, 32, most("a"))
	require.Equal(t, 16, most("b"))
	require.Equal(t, 8, most("c"))
	p.Give("a", 32)
	require.Equal(t, 16, most("c"))
	require.True(t, p.Fits("d", 12))
	require.False(t, p.Fits("d", 13))
	require.False(t, p.Take("d", 13))
	p.Give("b", 16)
	p.Give("c", 24)
	require.Empty(t, p.held, "who holds nothing is forgotten")
	require.EqualValues(t, 64, p.free)
}

func TestNobodyTakesMoreThanHalf(t *testing.T) {
	t.Parallel()
	p := New[int](10)
	require.False(t, p.Take(1, 6))
	require.True(t, p.Take(1, 5))
	require.True(t, p.Take(2, 2))
}

// Each half is smaller than the one before, so the seventh of those who share 64 found
// nothing.
func TestEachHolderHasItsOwnWhateverTheOthersHold(t *testing.T) {
	t.Parallel()
	const holders = 16
	p := NewWithOwn[int](64, 2)
	held := make(map[int]int64)
	for holder := range holders {
		for p.Take(holder, 1) {
			held[holder]++
		}
		require.GreaterOrEqual(t, held[holder], int64(2), "holder %d", holder)
	}
	require.EqualValues(t, 2+32, held[0])
	require.EqualValues(t, 2+16, held[1])
	require.False(t, p.Fits(0, 1))
	p.Give(0, held[0])
	require.True(t, p.Fits(holders, 2+16), "what was given back is shared again")
	for holder := 1; holder < holders; holder++ {
		p.Give(holder, held[holder])
	}
	require.Empty(t, p.held)
	require.EqualValues(t, 64, p.free)
}
