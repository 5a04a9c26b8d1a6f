package bench

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMediansAndTheirRatiosAreShown(t *testing.T) {
	t.Parallel()
	r := newResults()
	for _, value := range []float64{3, 1, 200} {
		r.add("speed", this, value)
	}
	for _, value := range []float64{1, 2} {
		r.add("speed", base, value)
	}
	r.add("only here", this, 1234.5)
	r.add("only there", limit, 0.5)
	var text strings.Builder
	require.NoError(t, r.print(&text))
	require.Equal(t, `
| what       | this | base | limit | this ÷ base | this ÷ limit |
| ---        | ---  | ---  | ---   | ---         | ---          |
| speed      | 3.00 | 1.50 | –     | 2.00        | –            |
| only here  | 1234 | –    | –     | –           | –            |
| only there | –    | –    | 0.50  | –           | –            |
`, text.String())
}

func TestWhatExceedsItsBoundIsSaid(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		value, limit float64
		exceeds      int
	}{
		"far below":             {1, 1, 0},
		"at the bound":          {30, 10, 0},
		"above":                 {31, 10, 1},
		"nothing to hold it to": {31, 0, 0},
	} {
		r := newResults()
		r.add("cost", this, test.value)
		if test.limit > 0 {
			r.add("unit", limit, test.limit)
		}
		require.Len(t, r.exceeded([]bound{{figure: "cost", most: 3, unit: "unit"}}), test.exceeds, name)
	}
	r := newResults()
	r.add("allocations", this, 11)
	require.Len(t, r.exceeded([]bound{{figure: "allocations", most: 10}, {figure: "never measured", most: 1}}), 1)
}
