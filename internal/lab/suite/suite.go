// Package suite runs the project's tests with go test, tells how they went, and
// repeats them beside other work, so that "always green" can be shown.
//
// It is what make test runs; nothing in the programs imports it.
package suite

import (
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

// flags are those of every run: the race detector, and a limit that ends a hang
// but never judges how fast a machine is. make lint vets, once for all. Long
// explorations go without the race detector, which makes them ten times as long:
// what they explore has no goroutines, and a short one is made with it.
func flags() (arguments []string, cgo string) {
	if os.Getenv(budget.Long) != "" {
		return []string{"test", "-json", "-vet=off", "-timeout=4h"}, "0"
	}
	return []string{"test", "-json", "-vet=off", "-timeout=60m", "-race"}, "1"
}

// Run runs go test with the arguments and returns what came of it. It writes a
// line for each package, the output of what fails, and with verbose all output.
// An error means that the tests could not be run or read, not that one failed.
func Run(ctx context.Context, out io.Writer, verbose bool, arguments ...string) (*Report, error) {
	common, cgo := flags()
	test := exec.CommandContext(ctx, "go", slices.Concat(common, arguments)...)
	// A test ends what it began. Without this each program under the race detector
	// waits a second at its end for goroutines that go on.
	test.Env = slices.Concat([]string{"GORACE=atexit_sleep_ms=0"}, os.Environ(), []string{"CGO_ENABLED=" + cgo})
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
	report.took = time.Since(began)
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
