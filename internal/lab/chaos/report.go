package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
)

// print shows what happened, the tables, and each violation with its story. It
// returns whether there was none.
func (v *verdict) print(out io.Writer) bool {
	w := v.w
	v.printInjuries(out)
	fmt.Fprintf(out, "\n%s\n", v.report)
	for _, line := range v.summary {
		fmt.Fprintln(out, line)
	}
	v.printFaults(out)
	v.printEvents(out)
	v.printRepeats(out)
	const most = 5
	for _, x := range v.report.Violations[:min(most, len(v.report.Violations))] {
		text, from, to := w.ledger.StoryOf(x)
		fmt.Fprintf(out, "\n==== %s\n%s%s", x, text, v.logLines(x.Event, string(x.Orchestrator), from, to))
	}
	for _, f := range v.findings {
		fmt.Fprintf(out, "\n==== %s\n", f)
	}
	good := len(v.report.Violations)+len(v.findings) == 0
	fmt.Fprintf(out, "\nseed %d: %s, after %s\n", w.options.seed,
		map[bool]string{true: "no violation", false: "VIOLATIONS"}[good], time.Since(w.began).Round(time.Second))
	return good
}

// printInjuries shows one fault after the other.
func (v *verdict) printInjuries(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nfault\tof\tat\tmended after\tready after\tlate events\tlongest wait\tlive again after")
	for _, o := range v.outcomes() {
		x := o.injury
		fmt.Fprintf(table, "%s\t%s\t%.1fs\t%s\t%s\t%d\t%s\t%s\n", x.name, x.what(), x.began.Sub(v.w.began).Seconds(),
			seconds(x.began, x.mended), seconds(x.mended, x.ready), o.lateEvents, inSeconds(o.longest), inSeconds(o.live))
	}
	_ = table.Flush()
}

// printFaults shows what each kind of fault did, as Markdown. Only faults that
// were alone count for the times.
func (v *verdict) printFaults(out io.Writer) {
	kinds := map[string][]outcome{}
	for _, o := range v.outcomes() {
		kinds[o.injury.name] = append(kinds[o.injury.name], o)
	}
	fmt.Fprintf(out, "\n%d faults, %d calm spells of %s. Times are of the faults before and after which the cluster was ready.\n\n",
		len(v.w.nemesis.done), v.w.nemesis.spells, v.w.options.calm)
	fmt.Fprintln(out, "| fault | count | of them alone | lasted: median | max | live again after its beginning: median | max | after its end: median | max |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|---|")
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		var lasted, live, rest []time.Duration
		for _, o := range kinds[name] {
			if o.alone {
				length := o.injury.mended.Sub(o.injury.began)
				lasted, live, rest = append(lasted, length), append(live, o.live), append(rest, max(0, o.live-length))
			}
		}
		fmt.Fprintf(out, "| %s | %d | %d | %s | %s | %s |\n", name, len(kinds[name]), len(lasted), medianAndMax(lasted), medianAndMax(live), medianAndMax(rest))
	}
}

// printEvents shows what became of the events, as Markdown.
func (v *verdict) printEvents(out io.Writer) {
	r := v.report
	kinds := map[ledger.Kind]int{}
	for _, x := range r.Violations {
		kinds[x.Kind]++
	}
	rows := []struct {
		what  string
		count any
	}{
		{"events published", r.Published},
		{"connections", r.Connections},
		{"events received", r.Receipts},
		{"acknowledgements", r.Acks},
		{"events lost", kinds[ledger.Lost] + kinds[ledger.Unstored]},
		{"events out of order", kinds[ledger.Misordered]},
		{"events of others received", kinds[ledger.Foreign]},
		{"events twice in the log", kinds[ledger.Doubled]},
		{"repeats", r.Repeats},
		{"of them without explanation", r.Reasons[ledger.Unexplained]},
		{fmt.Sprintf("most connections of one orchestrator (limit %d)", connectionLimit), r.MostConnections},
		{"time over the limit, of all orchestrators together", inSeconds(r.OverLimit)},
		{"times over the limit without explanation", kinds[ledger.Crowded]},
		{"violations of any kind", len(r.Violations) + len(v.findings)},
	}
	fmt.Fprint(out, "\n| what | count |\n|---|---|\n")
	for _, row := range rows {
		fmt.Fprintf(out, "| %s | %v |\n", row.what, row.count)
	}
}

// printRepeats shows why events came again, as Markdown.
func (v *verdict) printRepeats(out io.Writer) {
	fmt.Fprint(out, "\n| repeats because | count |\n|---|---|\n")
	for _, why := range ledger.Reasons() {
		if n := v.report.Reasons[why]; n > 0 {
			fmt.Fprintf(out, "| %s | %d |\n", why, n)
		}
	}
}

// outcome is what the daemons that stay all the time saw of a fault: of the
// events published from its beginning to that of the next.
type outcome struct {
	injury     *injury
	lateEvents int
	longest    time.Duration
	// live is from the beginning until the last late event came; 0: none was late.
	live time.Duration
	// alone: the cluster was ready before it, and again before the next.
	alone bool
}

func (v *verdict) outcomes() []outcome {
	var all []outcome
	stayed, done := v.w.stayed(), v.w.nemesis.done
	for i, x := range done {
		until := v.w.healed
		if i+1 < len(done) {
			until = done[i+1].began
		}
		o := outcome{injury: x, alone: !x.ready.IsZero() && (i == 0 || !done[i-1].ready.IsZero())}
		for _, d := range stayed {
			took := d.Received.Sub(d.Published)
			if took <= late || d.Published.Before(x.began) || !d.Published.Before(until) {
				continue
			}
			o.lateEvents++
			o.longest, o.live = max(o.longest, took), max(o.live, d.Received.Sub(x.began))
		}
		all = append(all, o)
	}
	return all
}

func medianAndMax(all []time.Duration) string {
	if len(all) == 0 {
		return "- | -"
	}
	slices.Sort(all)
	return inSeconds(all[len(all)/2]) + " | " + inSeconds(all[len(all)-1])
}

func inSeconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func seconds(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return "-"
	}
	return inSeconds(to.Sub(from))
}

// stayed returns what came to the steady daemons.
func (w *world) stayed() []ledger.Delivery {
	is := map[ledger.Seat]bool{}
	for _, s := range slices.Concat(w.crowd.seats...) {
		is[s.profile.Seat] = s.habit == steady
	}
	return slices.DeleteFunc(w.ledger.Deliveries(), func(d ledger.Delivery) bool { return !is[d.Seat] })
}
