package soak

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// series is n values of a function of the time, from 0 to 1.
func series(n int, f func(at float64) float64) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = f(float64(i) / float64(n-1))
	}
	return values
}

func TestGrowthIsToldFromNoise(t *testing.T) {
	t.Parallel()
	noise := rand.New(rand.NewPCG(1, 2))
	cases := map[string]struct {
		value func(at float64) float64
		grew  bool
	}{
		"a constant":                                 {func(float64) float64 { return 100 }, false},
		"noise of a half around a constant":          {func(float64) float64 { return 100 + 100*(noise.Float64()-0.5) }, false},
		"a sawtooth, as of a garbage-collected heap": {func(at float64) float64 { return 100 + 80*(17*at-float64(int(17*at))) }, false},
		"a step within the tolerance":                {func(at float64) float64 { return 100 + 15*float64(int(at+0.5)) }, false},
		"a step beyond it":                           {func(at float64) float64 { return 100 + 40*float64(int(at+0.5)) }, true},
		"a slow leak beneath noise":                  {func(at float64) float64 { return 100 + 60*at + 40*(noise.Float64()-0.5) }, true},
		"a leak that began late":                     {func(at float64) float64 { return 100 + 300*max(0, at-0.7) }, true},
		"a fall":                                     {func(at float64) float64 { return 200 - 100*at }, false},
		"nothing at first":                           {func(at float64) float64 { return 50 * at }, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, ok := trendOf(series(240, c.value), tolerance{absolute: 10, relative: 0.2})
			require.True(t, ok)
			require.Equal(t, c.grew, got.grew, "%+v", got)
		})
	}
}

func TestSinglePeaksAreNoGrowth(t *testing.T) {
	t.Parallel()
	values := series(40, func(float64) float64 { return 100 })
	for _, i := range []int{31, 34, 39} {
		values[i] = 10_000
	}
	got, ok := trendOf(values, tolerance{})
	require.True(t, ok)
	require.False(t, got.grew)
	require.Equal(t, trend{first: 100, middle: 100, last: 100, most: 10_000}, got)
}

func TestTheLargerOfTheTolerancesCounts(t *testing.T) {
	t.Parallel()
	small := series(40, func(at float64) float64 { return 2 + 4*at })
	large := series(40, func(at float64) float64 { return 1000 + 100*at })
	for name, c := range map[string]struct {
		values []float64
		t      tolerance
		grew   bool
	}{
		"small, absolute tolerance": {small, tolerance{absolute: 5}, false},
		"small, relative tolerance": {small, tolerance{relative: 0.2}, true},
		"large, absolute tolerance": {large, tolerance{absolute: 5}, true},
		"large, relative tolerance": {large, tolerance{relative: 0.2}, false},
		"large, both":               {large, tolerance{absolute: 5, relative: 0.2}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := trendOf(c.values, c.t)
			require.True(t, ok)
			require.Equal(t, c.grew, got.grew, "%+v", got)
		})
	}
}

func TestTooFewValuesSayNothing(t *testing.T) {
	t.Parallel()
	_, ok := trendOf(series(minimum-1, func(at float64) float64 { return at }), tolerance{})
	require.False(t, ok)
}
