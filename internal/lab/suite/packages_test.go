package suite

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatTakesLongestIsBegunFirst(t *testing.T) {
	t.Chdir("../../..")
	tested, err := Tested(t.Context(), []string{"./..."})
	require.NoError(t, err)
	ordered, err := LongestFirst(t.Context(), []string{"./..."})
	require.NoError(t, err)

	var begun []string
	for _, name := range longest {
		begun = append(begun, "./"+name)
	}
	require.Equal(t, begun, ordered[:len(begun)], "each of the longest is a package with tests")
	slices.Sort(ordered)
	require.Equal(t, tested, ordered, "and none is left out")
}

// What CI runs under the race detector, and beside that without, is all.
func TestTheRaceDetectorLeavesOutOnlyWhatItSeesNothingOf(t *testing.T) {
	t.Chdir("../../..")
	tested, err := Tested(t.Context(), []string{"./..."})
	require.NoError(t, err)
	raced, err := Raced(t.Context(), []string{"./..."})
	require.NoError(t, err)
	unraced, err := Unraced(t.Context(), []string{"./..."})
	require.NoError(t, err)
	require.ElementsMatch(t, tested, append(raced, unraced...))
	require.Len(t, unraced, len(alone)+1, "each of them is a package with tests")
	ci, err := os.ReadFile(".ci/run")
	require.NoError(t, err)
	for _, part := range []string{"make race\n", "make test ARGS=-unraced\n"} {
		require.Contains(t, string(ci), part)
	}
	for _, name := range alone {
		files, err := filepath.Glob(filepath.Join(name, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			require.False(t, startsGoroutines(parsed), "%s: something runs beside something else", file)
		}
	}
}

func startsGoroutines(file *ast.File) (starts bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			starts = true
		case *ast.SelectorExpr:
			starts = starts || n.Sel.Name == "Go"
		}
		return !starts
	})
	return starts
}
