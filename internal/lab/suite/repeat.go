package suite

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Repetition says what is run how often.
type Repetition struct {
	Packages [][]string // of each run's go test; each is repeated by itself
	Flags    []string   // of go test
	Times    int
	Busy     int // how many processes compute beside it without pause
	// Stutter is what the halts of the first run's test binaries are drawn from,
	// and one more for each further run; 0: they run without.
	Stutter uint64
}

// tally is what came of the runs of one line of Repetition.Packages.
type tally struct {
	name   string
	passed int
	took   []time.Duration
}

// Repeat runs tests again and again. It writes how each run went and a table of
// all to out, and what the runs say to log. It reports whether all passed.
func (r Repetition) Repeat(ctx context.Context, out, log io.Writer) (bool, error) {
	stop, err := computeBeside(r.Busy)
	if err != nil {
		return false, err
	}
	defer stop()
	var tallies []tally
	for _, packages := range r.Packages {
		t := tally{name: strings.Join(packages, " ")}
		for n := range r.Times {
			flags := []string{"-count=1"}
			if r.Stutter != 0 {
				exec, err := stutterFlag(r.Stutter + uint64(n))
				if err != nil {
					return false, err
				}
				flags = append(flags, exec)
			}
			report, err := Run(ctx, log, false, slices.Concat(flags, r.Flags, packages)...)
			if err != nil {
				return false, err
			}
			report.Close()
			verdict := "passed"
			if report.Passed() {
				t.passed++
			} else {
				verdict = "FAILED: " + strings.Join(report.Failures(), ", ")
			}
			t.took = append(t.took, report.took)
			both := io.MultiWriter(out, log)
			_, _ = fmt.Fprintf(both, "%s, run %d of %d, took %s: %s\n", t.name, n+1, r.Times, round(report.took), verdict)
		}
		tallies = append(tallies, t)
	}
	_, _ = io.WriteString(io.MultiWriter(out, log), r.table(tallies))
	for _, t := range tallies {
		if t.passed < r.Times {
			return false, nil
		}
	}
	return true, nil
}

// table is a table in Markdown.
func (r Repetition) table(tallies []tally) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d processors, %d busy loops beside the tests%s\n\n", runtime.NumCPU(), r.Busy, r.stutters())
	b.WriteString("| tests | passed | took |\n|---|---|---|\n")
	for _, t := range tallies {
		var took []string
		for _, d := range t.took {
			took = append(took, round(d).String())
		}
		fmt.Fprintf(&b, "| `%s` | %d of %d | %s |\n", t.name, t.passed, r.Times, strings.Join(took, ", "))
	}
	return b.String()
}

func (r Repetition) stutters() string {
	if r.Stutter == 0 {
		return ""
	}
	return fmt.Sprintf(", which stutter from seed %d", r.Stutter)
}

// busyVariable tells this program, started again, that it is to be busy.
const busyVariable = "SUITE_BUSY"

// ComputeIfAsked computes without pause where this process was started for that,
// until the one that started it lets go of its standard input or is gone.
func ComputeIfAsked() {
	if os.Getenv(busyVariable) == "" {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for n := uint64(1); n != 0; n++ { // for some centuries
	}
}

// computeBeside starts processes that do nothing but compute.
func computeBeside(n int) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	for range n {
		busy := exec.Command(self)
		busy.Env = append(os.Environ(), busyVariable+"=1", "GOMAXPROCS=2")
		hold, err := busy.StdinPipe()
		if err == nil {
			err = busy.Start()
		}
		if err != nil {
			stop()
			return nil, fmt.Errorf("start a busy loop: %w", err)
		}
		stops = append(stops, func() {
			_ = hold.Close()
			_ = busy.Wait()
		})
	}
	return stop, nil
}
