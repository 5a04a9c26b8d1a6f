package soak

import (
	"fmt"
	"io"
	"strings"

	"github.com/neolith/daemon-gateway/internal/lab"
)

// line sums the newest values over the processes.
func (s *samples) line() string {
	sums := map[quantity]float64{}
	var order []quantity
	for _, k := range s.keys {
		if _, seen := sums[k.quantity]; !seen {
			order = append(order, k.quantity)
		}
		values := s.values[k]
		sums[k.quantity] += values[len(values)-1]
	}
	var parts []string
	for _, q := range order {
		parts = append(parts, q.name+" "+q.format(sums[q]))
	}
	return strings.Join(parts, ", ")
}

// format shows a value with its unit.
func (q quantity) format(value float64) string {
	if q.bytes {
		return fmt.Sprintf("%.1f MiB", value/mebibyte)
	}
	return fmt.Sprintf("%.0f", value)
}

// print writes the table and returns what grew.
func (s *samples) print(w io.Writer, o options) (grew []string, err error) {
	fmt.Fprintf(w, "\n%s after a warm-up of %s, a measurement every %s; %d daemons, %d events a second\n",
		o.duration-o.warmUp, o.warmUp, o.look, o.daemons, o.rate)
	table := lab.NewTable("process", "what", "first quarter", "between", "last quarter", "most", "grew")
	for _, k := range s.keys {
		q := k.quantity
		r, ok := trendOf(s.values[k], q.tolerance)
		if !ok {
			return nil, fmt.Errorf("%d measurements of %s of %s are too few: take more time, or look more often", len(s.values[k]), q.name, k.process)
		}
		verdict := "no"
		if r.grew {
			verdict = "yes"
			grew = append(grew, fmt.Sprintf("%s of %s from %s to %s", q.name, k.process, q.format(r.first), q.format(r.last)))
		}
		table.Row(k.process, q.name, q.format(r.first), q.format(r.middle), q.format(r.last), q.format(r.most), verdict)
	}
	return grew, table.Print(w)
}
