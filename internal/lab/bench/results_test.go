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
