package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// report collects what was done and prints it as Markdown that can go into
// docs/disaster-recovery.md.
type report struct {
	started   time.Time
	exercises []*chapter
	broken    []string
}

// chapter is an exercise.
type chapter struct {
	title string
	rows  []row
}

type row struct {
	at, took time.Duration
	step     string
	events   int // -1: the step is not about events
	lost     string
}

func newReport() *report { return &report{started: time.Now()} }

func (r *report) begin(title string) {
	fmt.Printf("%6s  %s\n", r.now(), title)
	r.exercises = append(r.exercises, &chapter{title: title})
}

func (r *report) now() time.Duration { return time.Since(r.started).Round(time.Second) }

func (r *report) add(x row) {
	x.at = time.Since(r.started)
	last := r.exercises[len(r.exercises)-1]
	last.rows = append(last.rows, x)
	fmt.Printf("%6s    %s\n", r.now(), strings.Join(x.cells(), " | "))
}

// step notes something that was done and took its time.
func (r *report) step(began time.Time, format string, args ...any) {
	r.add(row{step: fmt.Sprintf(format, args...), took: time.Since(began), events: -1})
}

// promise notes how many events or rows something holds for, and how many it
// does not hold for though it must.
func (r *report) promise(events int, failed []string, format string, args ...any) {
	x := row{step: fmt.Sprintf(format, args...), events: events, lost: "0"}
	if len(failed) > 0 {
		x.lost = fmt.Sprintf("**%d, unexpected**", len(failed))
		r.broken = append(r.broken, fmt.Sprintf("%s: not so for %d:\n  %s", x.step, len(failed), strings.Join(failed[:min(10, len(failed))], "\n  ")))
		fmt.Println(r.broken[len(r.broken)-1])
	}
	r.add(x)
}

// price notes what the disaster costs.
func (r *report) price(events, lost int, format string, args ...any) {
	r.add(row{step: fmt.Sprintf(format, args...), events: events, lost: fmt.Sprintf("%d, expected", lost)})
}

func (x row) cells() []string {
	took, events := "", ""
	if x.took > 0 {
		took = fmt.Sprintf("%.1f s", x.took.Seconds())
	}
	if x.events >= 0 {
		events = fmt.Sprint(x.events)
	}
	return []string{x.step, took, events, x.lost}
}

func (r *report) print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	line := func(cells ...string) { fmt.Fprintf(out, "| %s\t|\n", strings.Join(cells, "\t| ")) }
	for _, c := range r.exercises {
		fmt.Fprintf(out, "\n**%s**\n\n", strings.ToUpper(c.title[:1])+c.title[1:])
		line("time", "step", "took", "events", "lost")
		line("---", "---", "---", "---", "---")
		for _, x := range c.rows {
			line(append([]string{clock(x.at)}, x.cells()...)...)
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func (r *report) verdict(w io.Writer) error {
	if len(r.broken) == 0 {
		_, err := fmt.Fprintf(w, "\nevery promise was kept; the drill took %s\n", r.now())
		return err
	}
	return fmt.Errorf("%d promises were broken:\n%s", len(r.broken), strings.Join(r.broken, "\n"))
}
