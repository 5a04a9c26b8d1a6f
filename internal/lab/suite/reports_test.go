package suite

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	report     = regexp.MustCompile(`[\w.-]+/[\w.-]+#\d+`)
	testOfARow = regexp.MustCompile("`(Test\\w+)`")
)

// Whoever reads a test finds the reports that it comes from, and whoever reads of a
// report in docs/reliability.md the test that there is.
func TestReportsOfFaultsAndTheirTestsNameOneAnother(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "reliability.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(page), "## Other people's faults")
	require.True(t, found)
	said := textsOfTests(t)
	rows := 0
	for line := range strings.Lines(section) {
		reports := report.FindAllString(line, -1)
		if !strings.HasPrefix(line, "| ") || reports == nil {
			continue
		}
		rows++
		for _, name := range testOfARow.FindAllStringSubmatch(line, -1) {
			text, ok := said[name[1]]
			require.True(t, ok, "there is no %s: %s", name[1], line)
			require.True(t, slices.ContainsFunc(reports, func(r string) bool { return strings.Contains(text, r) }), "%s names none of %v", name[1], reports)
		}
	}
	require.GreaterOrEqual(t, rows, 30)
}

// textsOfTests are the tests with what is said above each, by their names.
func textsOfTests(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	folders, files := tests(t)
	for _, folder := range folders {
		for _, file := range folder {
			path := files.Position(file.Pos()).Filename
			source, err := os.ReadFile(filepath.Join("..", "..", "..", path))
			require.NoError(t, err)
			for _, declaration := range file.Decls {
				f, ok := declaration.(*ast.FuncDecl)
				if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") {
					continue
				}
				begin := f.Pos()
				if f.Doc != nil {
					begin = f.Doc.Pos()
				}
				texts[f.Name.Name] += string(source[files.Position(begin).Offset:files.Position(f.End()).Offset])
			}
		}
	}
	return texts
}
