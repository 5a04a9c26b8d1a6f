// Package suite runs the project's tests with go test, tells how they went, and
// repeats them beside other work, so that "always green" can be shown.
//
// It is what make test runs; nothing in the programs imports it.
package suite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
)

// interruptPatience is how long go test and its tests may take to end when they
// are told to.
const interruptPatience = 30 * time.Second

// atOnce is how many packages are compiled or tested at once: more than two
// processors, because the tests wait for servers half of their time.
const atOnce = "-p=3"

// flags are those of every run: a limit that ends a hang but never judges how
// fast a machine is, and no vet, which make lint runs once for all.
func flags() []string {
	timeout := "-timeout=60m"
	if os.Getenv(budget.Long) != "" {
		timeout = "-timeout=4h"
	}
	return []string{"test", "-json", "-vet=off", atOnce, timeout}
}

// compilation is how go test compiles with these arguments: the race detector needs
// cgo, and everything else is compiled without. Debuggers are told nothing of what is
// compiled for it, since that would be a tenth of the work.
func compilation(arguments []string) (environment string, flags []string) {
	if slices.Contains(arguments, "-race") {
		return "CGO_ENABLED=1", []string{"-gcflags=all=-dwarf=false"}
	}
	return "CGO_ENABLED=0", nil
}

// Run runs go test with the arguments and returns what came of it. It writes a
// line for each package, the output of what fails, and with verbose all output.
// An error means that the tests could not be run or read, not that one failed.
func Run(ctx context.Context, out io.Writer, verbose bool, arguments ...string) (*Report, error) {
	cgo, compiled := compilation(arguments)
	test := exec.CommandContext(ctx, "go", slices.Concat(flags(), compiled, arguments)...)
	// A test ends what it began. Without this each program under the race detector
	// waits a second at its end for goroutines that go on.
	test.Env = slices.Concat([]string{"GORACE=atexit_sleep_ms=0"}, os.Environ(), []string{cgo})
	if memory, err := inMemory(); err == nil {
		defer memory.leave()
		// What go test itself builds is large and stays on disk.
		test.Env = append(test.Env, "TMPDIR="+memory.Name(), "GOTMPDIR="+cmp.Or(os.Getenv("GOTMPDIR"), os.TempDir()))
	}
	test.Cancel = func() error { return test.Process.Signal(os.Interrupt) }
	test.WaitDelay = interruptPatience
	test.Stderr = out
	events, err := test.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("read from go test: %w", err)
	}
	began := time.Now()
	if err := test.Start(); err != nil {
		return nil, fmt.Errorf("start go test: %w", err)
	}
	report := newReport(out, verbose)
	err = report.read(events)
	// An exit code says what the report says, unless go test did not get as far as
	// to a package.
	failed := test.Wait()
	report.took, report.used = time.Since(began), test.ProcessState.UserTime()+test.ProcessState.SystemTime()
	switch exit := new(exec.ExitError); {
	case err != nil:
		return report, fmt.Errorf("read from go test: %w", err)
	case ctx.Err() != nil:
		return report, fmt.Errorf("go test was ended: %w", context.Cause(ctx))
	case failed != nil && (!errors.As(failed, &exit) || report.Passed()):
		return report, fmt.Errorf("go test: %w", failed)
	}
	return report, nil
}
