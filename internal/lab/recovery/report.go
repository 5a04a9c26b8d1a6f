package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/neolith/daemon-gateway/internal/buildinfo"
)

// report collects measurements and prints them as Markdown that can go into
// docs/operations.md.
type report struct {
	options options
	rows    []*row
}

// row is all repetitions of a fault.
type row struct {
	fault fault
	done  []measurement
}

func newReport(o options) *report { return &report{options: o} }

func (r *report) add(f fault, m measurement) {
	i := slices.IndexFunc(r.rows, func(x *row) bool { return x.fault.name == f.name })
	if i < 0 {
		i = len(r.rows)
		r.rows = append(r.rows, &row{fault: f})
	}
	r.rows[i].done = append(r.rows[i].done, m)
}

func (r *report) print(w io.Writer, missing int) error {
	fmt.Fprintf(w, "\n%s, version %s; %d orchestrators with an event each %s and a daemon on each edge, %d other daemons; %d repetitions; %d events missing in the end\n\n",
		machine(), buildinfo.Get().Version, r.options.streams, r.options.interval, r.options.quiet, r.options.repetitions, missing)
	out := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	line := func(cells ...string) { fmt.Fprintf(out, "| %s\t|\n", strings.Join(cells, "\t| ")) }
	line("fault", "live again, median", "worst", "worst, without the daemons' own waits", "log takes events again, worst",
		"latency of those concerned: p50 / p99 / max", "of the others")
	line("---", "---", "---", "---", "---", "---", "---")
	for _, x := range r.rows {
		line(x.cells()...)
	}
	return out.Flush()
}

func (x *row) cells() []string {
	var back, besides, stored, concerned, others []time.Duration
	for _, m := range x.done {
		back, besides, stored = append(back, m.back), append(besides, m.backBesides), append(stored, m.stored)
		concerned, others = append(concerned, m.concerned...), append(others, m.others...)
	}
	slices.Sort(back)
	return []string{
		x.fault.what, seconds(back[len(back)/2]), seconds(slices.Max(back)), seconds(slices.Max(besides)), seconds(slices.Max(stored)),
		percentiles(concerned), percentiles(others),
	}
}

// seconds shows a time; one that is 0 is none at all.
func seconds(d time.Duration) string {
	if d == 0 {
		return "no gap"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// percentiles shows p50, p99 and the highest; it sorts.
func percentiles(all []time.Duration) string {
	if len(all) == 0 {
		return "–"
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("%s / %s / %s", at(.5), at(.99), at(1))
}

func machine() string {
	return fmt.Sprintf("%d cores of %s/%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}
