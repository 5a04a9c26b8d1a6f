package soak

import "slices"

// tolerance is by how much a quantity may be higher at the end than at the
// beginning: whichever of the two is more. The absolute part is for what is
// small, where one more is many percent; the relative part for what breathes.
type tolerance struct {
	absolute float64
	relative float64 // of what it was at the beginning
}

// trend is how a quantity went.
type trend struct {
	first, middle, last float64 // medians of the first quarter, the half between, and the last quarter
	most                float64
	grew                bool
}

// minimum is how many values say something about a trend.
const minimum = 8

// trendOf compares the medians of the first and the last quarter of values, in
// the order in which they were taken. A median does not mind single peaks, such
// as a sample just before a garbage collection; what grows steadily differs by
// three quarters of its growth. Fewer than the minimum of values have no trend.
func trendOf(values []float64, t tolerance) (trend, bool) {
	if len(values) < minimum {
		return trend{}, false
	}
	quarter := len(values) / 4
	r := trend{
		first:  median(values[:quarter]),
		middle: median(values[quarter : len(values)-quarter]),
		last:   median(values[len(values)-quarter:]),
		most:   slices.Max(values),
	}
	r.grew = r.last-r.first > max(t.absolute, t.relative*r.first)
	return r, true
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
