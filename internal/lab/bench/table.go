package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// table collects what was measured, as Markdown that can go into docs/scaling.md.
type table struct {
	out *tabwriter.Writer
}

func newTable(w io.Writer) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)}
	t.row("what", "result")
	t.row("---", "---")
	return t
}

func (t *table) row(what, format string, args ...any) {
	fmt.Fprintf(t.out, "| %s\t| %s\t|\n", what, fmt.Sprintf(format, args...))
}

func (t *table) print() error {
	fmt.Println()
	return t.out.Flush()
}
