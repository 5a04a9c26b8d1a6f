package suite

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// slowest is how many packages and tests the tables name.
const slowest = 10

// timed is a line of a table.
type timed struct {
	name string
	took time.Duration
}

// Close writes the slowest packages and tests, what failed, and as the last line
// how many did.
func (r *Report) Close() {
	var packages, tests []timed
	count := map[verdict]int{}
	for _, p := range r.all() {
		if p.verdict == "" {
			p.verdict = failed
			r.write(p.story() + p.closing())
		}
		count[p.verdict]++
		packages = append(packages, timed{p.short(), p.took})
		for _, t := range p.tests {
			if t.top() {
				tests = append(tests, timed{p.short() + " " + t.name, t.took})
			}
		}
	}
	r.write(table("Slowest packages", packages))
	r.write(table("Slowest tests", tests))
	if failures := r.Failures(); len(failures) > 0 {
		r.write("\nFailed\n  " + strings.Join(failures, "\n  ") + "\n")
	}
	r.write(fmt.Sprintf("\n%d packages passed, %d failed, with %d tests in %s, %s of processors\n", count[passed], count[failed], len(tests), round(r.took), round(r.used)))
}

func table(title string, lines []timed) string {
	slices.SortStableFunc(lines, func(a, b timed) int { return cmp.Compare(b.took, a.took) })
	var b strings.Builder
	for _, line := range lines[:min(slowest, len(lines))] {
		fmt.Fprintf(&b, "%8s  %s\n", round(line.took), line.name)
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n" + title + "\n" + b.String()
}

func round(d time.Duration) time.Duration {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
