// Package fuzzing runs the project's fuzz targets one after the other, each for a
// while: go test fuzzes one at a time. It is what make fuzz runs; go test runs
// their seeds as tests.
package fuzzing

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Target is a fuzz test.
type Target struct {
	Package string // as go test takes it, ./internal/ring
	Name    string
}

// String is how a target is written in lists.
func (t Target) String() string { return t.Package + " " + t.Name }

// Targets returns all fuzz targets of the module in a folder, in order. They are
// found in the source, so that none can be forgotten.
func Targets(root string) ([]Target, error) {
	var found []Target
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && isOther(path):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		names, err := namesIn(path)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		for _, name := range names {
			found = append(found, Target{"./" + filepath.ToSlash(folder), name})
		}
		return err
	})
	slices.SortFunc(found, func(a, b Target) int { return strings.Compare(a.String(), b.String()) })
	return found, err
}

// isOther reports whether a folder is none of the module's.
func isOther(folder string) bool {
	if strings.HasPrefix(filepath.Base(folder), ".") {
		return true
	}
	_, err := os.Stat(filepath.Join(folder, "go.mod"))
	return err == nil
}

func namesIn(path string) (names []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("look for fuzz targets: %w", err)
	}
	for _, declaration := range file.Decls {
		f, ok := declaration.(*ast.FuncDecl)
		if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Fuzz") {
			names = append(names, f.Name.Name)
		}
	}
	return names, nil
}
