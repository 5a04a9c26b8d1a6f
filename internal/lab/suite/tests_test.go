package suite

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tests are all files of tests by their folders, named from the root of the
// repository.
func tests(t *testing.T) (folders map[string][]*ast.File, files *token.FileSet) {
	t.Helper()
	folders, files = make(map[string][]*ast.File), token.NewFileSet()
	root := os.DirFS(filepath.Join("..", "..", ".."))
	require.NoError(t, fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(files, path, text, parser.SkipObjectResolution|parser.ParseComments)
		folder := filepath.Dir(path)
		folders[folder] = append(folders[folder], file)
		return err
	}))
	require.Greater(t, len(folders), 50, "all tests are read")
	return folders, files
}
