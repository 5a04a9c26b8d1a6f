package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/attack"
)

// table collects measurements as Markdown that can go into docs/security.md.
type table struct {
	options options
	rows    [][]string
}

func newTable(o options) *table {
	header := []string{
		"attack", "clients", "the others: p50 / p99 / max", "with the attack", "cores of the edge, before and with it",
		"MiB in use: before / most / after", "MiB resident, most", "what came of it",
	}
	return &table{options: o, rows: [][]string{header, slices.Repeat([]string{"---"}, len(header))}}
}

func (t *table) add(a attack.Attack, m measurement) {
	t.rows = append(t.rows, []string{
		a.What, fmt.Sprint(a.Clients), percentiles(m.calm), percentiles(m.attacked), fmt.Sprintf("%.2f, %.2f", m.calmCores, m.cores),
		mebibytes(m.before.inUse) + " / " + mebibytes(m.peak.inUse) + " / " + mebibytes(m.after.inUse), mebibytes(m.peak.resident), outcome(m.tally),
	})
}

func (t *table) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%d cores of %s/%s, shared by the whole cluster, %d well-behaved daemons, their %d events a second, and the attackers; %s of each attack\n\n",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, t.options.daemons, t.options.rate, t.options.attack)
	out := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	for _, cells := range t.rows {
		fmt.Fprintf(out, "| %s\t|\n", strings.Join(cells, "\t| "))
	}
	return out.Flush()
}

// percentiles shows p50, p99 and the highest of sorted times.
func percentiles(sorted []time.Duration) string {
	if len(sorted) == 0 {
		return "–"
	}
	at := func(q float64) time.Duration {
		return sorted[int(q*float64(len(sorted)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%s / %s / %s", at(.5), at(.99), at(1))
}

func mebibytes(bytes float64) string { return fmt.Sprintf("%.0f", bytes/(1<<20)) }

// outcome says what came of the attackers' connections.
func outcome(t attack.Tally) string {
	parts := []string{fmt.Sprintf("%d connections", t.Opened)}
	if t.Sent > 1<<20 {
		parts = append(parts, mebibytes(float64(t.Sent))+" MiB sent")
	}
	parts = append(parts, counts("closed with", t.Closed)...)
	parts = append(parts, counts("refused with", t.Refused)...)
	return strings.Join(parts, ", ")
}

func counts(what string, by map[int]int) []string {
	var parts []string
	for _, code := range slices.SortedFunc(maps.Keys(by), cmp.Compare[int]) {
		parts = append(parts, fmt.Sprintf("%d %s %d", by[code], what, code))
	}
	return parts
}
