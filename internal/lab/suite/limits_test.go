package suite

import (
	"fmt"
	"go/ast"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// meant are the tests, or folders, in which time that passes is what is tested,
// or is of no consequence, and why no slow machine makes them fail.
var meant = map[string]string{
	// What is shown is that a wait ends with its context, and it does at any speed.
	"internal/backup/backup_test.go TestServerWithoutAGatewayIsNotBackedUp":                     "nobody answers, ever",
	"internal/devcluster/log_test.go TestDaemonsStayConnectedWhileNATSHasNoMajority":            "no majority answers, ever",
	"internal/edge/socket/socket_test.go TestPingFindsALivePeerAndLeavesASilentOneOpen":         "the peer answers no ping, ever",
	"internal/lab/process/process_test.go TestProcessThatDoesNotStopInTimeRunsOn":               "the process does not stop, ever",
	"internal/lab/testserver/postgres_test.go TestPausedPostgresAnswersNothingUntilItIsResumed": "it is paused",
	"internal/neolith/history/history_test.go TestNobodyWaitsForAPostgresThatHangs":             "it is paused",
	"pkg/publisher/fault_test.go TestEventsAreTakenAgainOnceTheClusterHasAMajority":             "no majority answers, ever",
	"pkg/publisher/publisher_test.go TestLogThatIsAwayIsSaidAndRetryable":                       "it is shut down",

	// What takes longer is done again.
	"internal/eventlog/follow_test.go follow":                                                 "the pause before it follows again",
	"internal/natsconn/natsconn_test.go TestACheckSaysThatAnswersAreForbiddenUntilTheyAreNot": "it is asked until it is answered",
	"internal/router/helper_test.go publish":                                                  "the event is published until it is stored",
	"pkg/publisher/fault_test.go TestEventWhoseAnswerIsLostOrLateIsRepeatedAndStoredOnce":     "the event is published until it is stored",

	// On a slow machine less is proven, and no test fails.
	"internal/edge/socket/socket_test.go TestAFloodWithoutReadingStopsTheReader":     "it is flooded until it reads nothing for so long",
	"internal/edge/socket/socket_test.go TestPingsOfAPeerThatReadsNothingAreBounded": "it is flooded until it reads nothing for so long",
	"internal/lab/network/network_test.go staysSilent":                               "what is cut comes never, not late",

	"pkg/client": "its tests run in a bubble, which its harness makes",

	// The limit is longer.
	"internal/lab/e2e/harness_test.go newWorld": "20 minutes, for a whole test",
	"internal/lab/e2e/harness_test.go repeat":   "the pause before it asks again",

	"internal/eventlog/storage_bench_test.go BenchmarkStorage": "it measures, and judges nothing",
}

// No verdict depends on how fast a machine is: a test waits for a condition, with
// testserver.Patience as the limit that ends a hang, and sleeps nowhere but in a
// bubble of testing/synctest, whose time is its own.
func TestNoTestJudgesBySpeed(t *testing.T) {
	t.Parallel()
	folders, files := tests(t)
	unused := map[string]bool{}
	for where := range meant {
		unused[where] = true
	}
	for _, folder := range folders {
		patience := namesOfPatience(folder)
		for _, file := range folder {
			if imports(file, "testing/synctest") {
				continue
			}
			for _, declaration := range file.Decls {
				for _, call := range judging(declaration, patience) {
					at := files.Position(call.Pos())
					path := at.Filename
					folder, where := filepath.ToSlash(filepath.Dir(path)), path+" "+nameOf(declaration)
					delete(unused, folder)
					delete(unused, where)
					if meant[folder] == "" && meant[where] == "" {
						t.Errorf("%s:%d, %s: wait for a condition, for as long as testserver.Patience; or say above why no slow machine makes the test fail",
							path, at.Line, nameOf(declaration))
					}
				}
			}
		}
	}
	require.Empty(t, unused, "nothing has to be said of these any more")
}

// limits are the functions that end a wait after a time, each with the place of
// that time among its arguments.
var limits = map[string]int{
	"time.Sleep": 0, "time.After": 0, "time.NewTimer": 0, "context.WithTimeout": 1,
	"require.Eventually": 2, "require.EventuallyWithT": 2, "require.Never": 2,
	"assert.Eventually": 2, "assert.EventuallyWithT": 2, "assert.Never": 2,
}

// judging returns the calls in a declaration that wait for a time, or give up
// after one that is not testserver.Patience.
func judging(in ast.Node, patience []string) (calls []*ast.CallExpr) {
	ast.Inspect(in, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name := written(call.Fun)
		place, limited := limits[name]
		switch {
		case limited && (place >= len(call.Args) || !slices.Contains(patience, written(call.Args[place]))),
			name == "time.Sleep", strings.HasSuffix(name, ".Never"),
			strings.HasSuffix(name, "Deadline") && strings.Contains(name, ".Set") && len(call.Args) == 1 && !patient(call.Args[0], patience):
			calls = append(calls, call)
		}
		return true
	})
	return calls
}

// patient reports whether a deadline is none, or in testserver.Patience from now.
func patient(deadline ast.Expr, patience []string) bool {
	if written(deadline) == "time.Time{}" {
		return true
	}
	call, ok := deadline.(*ast.CallExpr)
	return ok && written(call.Fun) == "time.Now().Add" && slices.Contains(patience, written(call.Args[0]))
}

// namesOfPatience are how the tests of a folder call testserver.Patience. The
// module of deploy/check, which does not import it, has a limit of its own.
func namesOfPatience(folder []*ast.File) []string {
	const name = "testserver.Patience"
	names := []string{name}
	for _, file := range folder {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for i, value := range spec.Values {
					if text := written(value); text == name || text == "5 * time.Minute" {
						names = append(names, spec.Names[i].Name)
					}
				}
			}
			return true
		})
	}
	return names
}

// written is an expression as it stands in the text, as far as limits go.
func written(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.BasicLit:
		return e.Value
	case *ast.SelectorExpr:
		return written(e.X) + "." + e.Sel.Name
	case *ast.BinaryExpr:
		return fmt.Sprint(written(e.X), " ", e.Op, " ", written(e.Y))
	case *ast.CompositeLit:
		return written(e.Type) + "{}"
	case *ast.CallExpr: // without its arguments
		return written(e.Fun) + "()"
	}
	return ""
}

func imports(file *ast.File, path string) bool {
	return slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+path+`"` })
}

func nameOf(d ast.Decl) string {
	if f, ok := d.(*ast.FuncDecl); ok {
		return f.Name.Name
	}
	return "declaration"
}
