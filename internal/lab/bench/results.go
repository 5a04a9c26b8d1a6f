package bench

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/neolith/daemon-gateway/internal/lab"
)

// results are what was measured: for each figure and each contestant the values
// of all runs.
type results struct {
	figures []string // in the order in which they came
	values  map[string]map[string][]float64
}

func newResults() *results { return &results{values: make(map[string]map[string][]float64)} }

func (r *results) add(figure, who string, value float64) {
	if r.values[figure] == nil {
		r.figures = append(r.figures, figure)
		r.values[figure] = make(map[string][]float64)
	}
	r.values[figure][who] = append(r.values[figure][who], value)
}

// median is not a number where nothing was measured.
func (r *results) median(figure, who string) float64 {
	all := slices.Sorted(slices.Values(r.values[figure][who]))
	if len(all) == 0 {
		return math.NaN()
	}
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// ratio is how many times the other's value this one's is.
func (r *results) ratio(figure, other string) float64 {
	return r.median(figure, this) / r.median(figure, other)
}

// print shows a column for each contestant, and for each but this one the ratio
// to it.
func (r *results) print(w io.Writer) error {
	var others []string
	for _, who := range []string{base, reference, limit} {
		if slices.ContainsFunc(r.figures, func(figure string) bool { return r.values[figure][who] != nil }) {
			others = append(others, who)
		}
	}
	header := append([]string{"what", this}, others...)
	for _, who := range others {
		header = append(header, this+" ÷ "+who)
	}
	table := lab.NewTable(header...)
	for _, figure := range r.figures {
		row := []any{figure, rounded(r.median(figure, this))}
		for _, who := range others {
			row = append(row, rounded(r.median(figure, who)))
		}
		for _, who := range others {
			row = append(row, rounded(r.ratio(figure, who)))
		}
		table.Row(row...)
	}
	return table.Print(w)
}

// rounded shows three digits.
func rounded(x float64) string {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "–"
	case math.Abs(x) >= 100:
		return fmt.Sprintf("%.0f", x)
	case math.Abs(x) >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}
