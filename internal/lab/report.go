package lab

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Table collects rows and prints them as Markdown that can go into a page.
type Table struct {
	rows [][]any
}

// NewTable returns a table without rows.
func NewTable(header ...string) *Table {
	t := &Table{}
	for _, row := range [][]string{header, slices.Repeat([]string{"---"}, len(header))} {
		var cells []any
		for _, cell := range row {
			cells = append(cells, cell)
		}
		t.Row(cells...)
	}
	return t
}

// Row adds a row; cells are shown as fmt.Print shows them.
func (t *Table) Row(cells ...any) { t.rows = append(t.rows, cells) }

// Print writes the table, its columns aligned, with an empty line before it.
func (t *Table) Print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(out)
	for _, row := range t.rows {
		var cells []string
		for _, cell := range row {
			cells = append(cells, fmt.Sprint(cell))
		}
		fmt.Fprintf(out, "| %s\t|\n", strings.Join(cells, "\t| "))
	}
	return out.Flush()
}

// Seconds shows a time in seconds.
func Seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// Percentile returns the value below which the share q of all lies; all is not empty.
func Percentile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[int(q*float64(len(sorted)-1))]
}

// Percentiles shows p50, p99 and the highest, rounded to a unit.
func Percentiles(all []time.Duration, unit time.Duration) string {
	if len(all) == 0 {
		return "–"
	}
	sorted := slices.Sorted(slices.Values(all))
	at := func(q float64) time.Duration { return sorted[int(q*float64(len(sorted)-1))].Round(unit) }
	return fmt.Sprintf("%s / %s / %s", at(.5), at(.99), at(1))
}

// Machine says on what a table was measured.
func Machine() string {
	return fmt.Sprintf("%d cores of %s/%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}
