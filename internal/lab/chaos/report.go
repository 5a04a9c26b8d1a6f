package chaos

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
)

// print shows what happened, and the tables.
func (v *verdict) print(out io.Writer) error {
	err := v.printEach(out)
	fmt.Fprintf(out, "\n%s\n", v.report)
	for _, line := range v.summary {
		fmt.Fprintln(out, line)
	}
	return errors.Join(err, v.printKinds(out), v.printEvents(out), v.printRepeats(out))
}

// printEach shows one fault after the other.
func (v *verdict) printEach(out io.Writer) error {
	table := lab.NewTable("fault", "of", "at", "mended after", "ready after", "late events", "longest wait", "live again after")
	for _, o := range v.outcomes() {
		f := o.fault
		table.Row(f.name, f.what(), lab.Seconds(f.began.Sub(v.Began())), seconds(f.began, f.mended), seconds(f.mended, f.ready),
			o.lateEvents, lab.Seconds(o.longest), lab.Seconds(o.live))
	}
	return table.Print(out)
}

// printKinds shows what each kind of fault did. Only faults that were alone
// count for the times.
func (v *verdict) printKinds(out io.Writer) error {
	kinds := map[string][]outcome{}
	for _, o := range v.outcomes() {
		kinds[o.fault.name] = append(kinds[o.fault.name], o)
	}
	fmt.Fprintf(out, "\n%d faults, %d calm spells of %s. Times are of the faults before and after which the cluster was ready.\n",
		len(v.nemesis.done), v.nemesis.spells, v.options.calm)
	table := lab.NewTable("fault", "count", "of them alone", "lasted: median", "max", "live again after its beginning: median", "max", "after its end: median", "max")
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		var lasted, live, rest []time.Duration
		for _, o := range kinds[name] {
			if o.alone {
				length := o.fault.mended.Sub(o.fault.began)
				lasted, live, rest = append(lasted, length), append(live, o.live), append(rest, max(0, o.live-length))
			}
		}
		cells := []any{name, len(kinds[name]), len(lasted)}
		for _, times := range [][]time.Duration{lasted, live, rest} {
			cells = append(cells, medianAndMax(times)...)
		}
		table.Row(cells...)
	}
	return table.Print(out)
}

// printEvents shows what became of the events.
func (v *verdict) printEvents(out io.Writer) error {
	r := v.report
	kinds := map[ledger.Kind]int{}
	for _, x := range r.Violations {
		kinds[x.Kind]++
	}
	table := lab.NewTable("what", "count")
	table.Row("events published", r.Published)
	table.Row("connections", r.Connections)
	table.Row("events received", r.Receipts)
	table.Row("acknowledgements", r.Acks)
	table.Row("events lost", kinds[ledger.Lost]+kinds[ledger.Unstored])
	table.Row("events out of order", kinds[ledger.Misordered])
	table.Row("events of others received", kinds[ledger.Foreign])
	table.Row("events twice in the log", kinds[ledger.Doubled])
	table.Row("repeats", r.Repeats)
	table.Row("of them without explanation", r.Reasons[ledger.Unexplained])
	table.Row(fmt.Sprintf("most connections of one orchestrator (limit %d)", connectionLimit), r.MostConnections)
	table.Row("time over the limit, of all orchestrators together", lab.Seconds(r.OverLimit))
	table.Row("times over the limit without explanation", kinds[ledger.Crowded])
	table.Row("findings of any kind", len(v.Findings()))
	return table.Print(out)
}

// printRepeats shows why events came again.
func (v *verdict) printRepeats(out io.Writer) error {
	table := lab.NewTable("repeats because", "count")
	for _, why := range ledger.Reasons() {
		if n := v.report.Reasons[why]; n > 0 {
			table.Row(why, n)
		}
	}
	return table.Print(out)
}

// outcome is what the daemons that stay all the time saw of a fault: of the
// events published from its beginning to that of the next.
type outcome struct {
	fault      *fault
	lateEvents int
	longest    time.Duration
	// live is from the beginning until the last late event came; 0: none was late.
	live time.Duration
	// alone: the cluster was ready before it, and again before the next.
	alone bool
}

func (v *verdict) outcomes() []outcome {
	var all []outcome
	stayed, done := v.stayed(), v.nemesis.done
	for i, f := range done {
		until := v.healed
		if i+1 < len(done) {
			until = done[i+1].began
		}
		o := outcome{fault: f, alone: !f.ready.IsZero() && (i == 0 || !done[i-1].ready.IsZero())}
		for _, d := range stayed {
			took := d.Received.Sub(d.Published)
			if took <= late || d.Published.Before(f.began) || !d.Published.Before(until) {
				continue
			}
			o.lateEvents++
			o.longest, o.live = max(o.longest, took), max(o.live, d.Received.Sub(f.began))
		}
		all = append(all, o)
	}
	return all
}

func medianAndMax(all []time.Duration) []any {
	if len(all) == 0 {
		return []any{"-", "-"}
	}
	slices.Sort(all)
	return []any{lab.Seconds(all[len(all)/2]), lab.Seconds(all[len(all)-1])}
}

func seconds(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return "-"
	}
	return lab.Seconds(to.Sub(from))
}
