package recovery

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/buildinfo"
	"github.com/neolith/daemon-gateway/internal/lab"
)

// row is all repetitions of a fault.
type row struct {
	fault fault
	done  []measurement
}

func printTable(w io.Writer, o options, rows []row) error {
	fmt.Fprintf(w, "\n%s, version %s; %d orchestrators with an event each %s and a daemon on each edge, %d other daemons; %d repetitions\n",
		lab.Machine(), buildinfo.Get().Version, o.streams, o.interval, o.quiet, o.repetitions)
	table := lab.NewTable("fault", "live again, median", "worst", "worst, without the daemons' own waits", "log takes events again, worst",
		"latency of those concerned: p50 / p99 / max", "of the others")
	for _, x := range rows {
		table.Row(x.cells()...)
	}
	return table.Print(w)
}

func (x row) cells() []any {
	var back, besides, stored, concerned, others []time.Duration
	for _, m := range x.done {
		back, besides, stored = append(back, m.back), append(besides, m.backBesides), append(stored, m.stored)
		concerned, others = append(concerned, m.concerned...), append(others, m.others...)
	}
	slices.Sort(back)
	return []any{
		x.fault.what, gap(back[len(back)/2]), gap(slices.Max(back)), gap(slices.Max(besides)), gap(slices.Max(stored)),
		percentiles(concerned), percentiles(others),
	}
}

// gap shows how long something was away; 0 is not at all.
func gap(d time.Duration) string {
	if d == 0 {
		return "no gap"
	}
	return lab.Seconds(d)
}

func percentiles(all []time.Duration) string { return lab.Percentiles(all, time.Millisecond) }
