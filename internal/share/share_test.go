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
