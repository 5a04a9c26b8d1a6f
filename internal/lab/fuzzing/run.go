package fuzzing

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"text/tabwriter"
)

// Result is what came of a target.
type Result struct {
	Target
	Executions string
	Err        error // why it failed; go test has said more
}

// Run fuzzes each target of the module in a folder for as long as it says, such as
// 1m or 1000x, and tells how it went. It goes on after one that fails; go test leaves the input in its package's
// testdata.
func Run(ctx context.Context, root string, out io.Writer, targets []Target, each string) error {
	var results []Result
	for _, target := range targets {
		if ctx.Err() != nil {
			break
		}
		fmt.Fprintf(out, "== %s\n", target)
		executions, err := fuzz(ctx, root, out, target, each)
		results = append(results, Result{target, executions, err})
	}
	return tell(out, results, ctx.Err())
}

// executed finds how often a target has been run, in the lines of go test.
var executed = regexp.MustCompile(`^fuzz: elapsed: .*execs: (\d+)`)

// minimize keeps go test from spending most of a minute on making inputs short.
const minimize = "-fuzzminimizetime=100x"

func fuzz(ctx context.Context, root string, out io.Writer, target Target, each string) (executions string, err error) {
	test := exec.CommandContext(ctx, "go", "test", "-vet=off", "-run", "^$", "-fuzz", "^"+target.Name+"$", "-fuzztime", each, minimize, target.Package)
	test.Dir = root
	test.Cancel = func() error { return test.Process.Signal(os.Interrupt) }
	lines, err := test.StdoutPipe()
	if err != nil {
		return "", err
	}
	test.Stderr = test.Stdout // one stream, in the order in which it is written
	if err := test.Start(); err != nil {
		return "", fmt.Errorf("run go test: %w", err)
	}
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		if found := executed.FindStringSubmatch(scanner.Text()); found != nil {
			executions = found[1]
			continue
		}
		fmt.Fprintln(out, scanner.Text())
	}
	_, drained := io.Copy(io.Discard, lines)
	return executions, errors.Join(scanner.Err(), drained, test.Wait())
}

// tell writes a line for each target.
func tell(out io.Writer, results []Result, stopped error) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "target\texecutions\tresult")
	var failed []string
	for _, r := range results {
		verdict := "passed"
		if r.Err != nil {
			verdict = "FAILED"
			failed = append(failed, r.String())
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", r.Target, r.Executions, verdict)
	}
	err := errors.Join(table.Flush(), stopped)
	if len(failed) > 0 {
		err = errors.Join(err, fmt.Errorf("failed: %s", strings.Join(failed, ", ")))
	}
	return err
}
