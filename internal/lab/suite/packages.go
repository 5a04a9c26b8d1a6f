package suite

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// longest are the packages whose tests take over half a minute, the longest
// first. The table at a run's end says when that has changed.
var longest = []string{
	programs,
	"internal/edge",
	"internal/bridge",
	"internal/eventlog",
	"internal/router",
	"internal/devcluster",
	"internal/neolith/history",
	"internal/lab/simulation",
}

// programs is the package whose tests run the gateway's programs: the race
// detector, which is in the tests alone, would see nothing of them.
const programs = "internal/lab/e2e"

// alone are the packages in whose tests nothing runs beside anything else: state
// machines that are tried for long, and tools that build programs. There is
// nothing for the race detector to see, and it takes many times as long to look.
var alone = []string{
	"internal/bridge/sequencer",
	"internal/edge/balance",
	"internal/edge/session",
	"internal/lab/fuzzing",
	"internal/lab/simulation",
	"internal/router/lane",
}

func mayRace(name string) bool {
	return !slices.Contains(append(alone, programs), strings.TrimPrefix(name, "./"))
}

// Raced returns the packages among some that have tests in which the race detector
// may see something.
func Raced(ctx context.Context, packages []string) ([]string, error) {
	tested, err := Tested(ctx, packages)
	return slices.DeleteFunc(tested, func(name string) bool { return !mayRace(name) }), err
}

// Unraced returns those that Raced leaves out.
func Unraced(ctx context.Context, packages []string) ([]string, error) {
	tested, err := Tested(ctx, packages)
	return slices.DeleteFunc(tested, mayRace), err
}

// LongestFirst returns the packages among some that have tests, so that go test
// begins with those that take longest: what starts late must not be what all
// others are waited with.
func LongestFirst(ctx context.Context, packages []string) ([]string, error) {
	tested, err := Tested(ctx, packages)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(tested, func(a, b string) int { return place(a) - place(b) })
	return tested, nil
}

// place is where a package stands among the longest, or after them.
func place(name string) int {
	if n := slices.Index(longest, strings.TrimPrefix(name, "./")); n >= 0 {
		return n
	}
	return len(longest)
}

// Tested returns the packages among some that have tests.
func Tested(ctx context.Context, packages []string) ([]string, error) {
	return list(ctx, `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}`, packages)
}

// Exploring returns the packages among some whose tests explore at random.
func Exploring(ctx context.Context, packages []string) ([]string, error) {
	const names = `{{$name := .ImportPath}}{{range .TestImports}}{{if eq . "` + module + `internal/lab/budget"}}{{$name}}{{end}}{{end}}`
	return list(ctx, names, packages)
}

func list(ctx context.Context, names string, packages []string) ([]string, error) {
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-f", names}, packages...)...)
	list.Stderr = os.Stderr
	listed, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages: %w", err)
	}
	var found []string
	for name := range strings.FieldsSeq(string(listed)) {
		found = append(found, "./"+strings.TrimPrefix(name, module))
	}
	return found, nil
}
