package fuzzing

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../../.."

// make fuzz leaves none out: what go finds, in the packages that speak of fuzzing
// at all, is found in the source as well.
func TestEveryTargetIsFuzzed(t *testing.T) {
	t.Parallel()
	found, err := Targets(root)
	require.NoError(t, err)
	names := map[Target]bool{}
	for _, target := range found {
		names[target] = true
	}
	require.NoError(t, filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		folder, err := filepath.Rel(root, filepath.Dir(path))
		require.NoError(t, err)
		for _, line := range strings.Split(string(text), "\n") {
			if rest, ok := strings.CutPrefix(line, "func Fuzz"); ok {
				name, _, _ := strings.Cut("Fuzz"+rest, "(")
				require.True(t, names[Target{"./" + filepath.ToSlash(folder), name}], "%s in %s", name, path)
			}
		}
		return nil
	}))
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	require.Contains(t, string(makefile), "go run ./scripts/fuzz ")
}

// A module with a target that finds its mistake, and one that has none.
func TestAFailureIsToldAndKeepsNoOtherFromBeingFuzzed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("go.mod", "module example\n\ngo 1.26\n")
	write("some_test.go", "package example\n\nimport \"testing\"\n\n"+
		`func FuzzBad(f *testing.F) { f.Add("seed"); f.Fuzz(func(t *testing.T, _ string) { t.Fatal("bad") }) }`+"\n\n"+
		`func FuzzGood(f *testing.F) { f.Add("seed"); f.Fuzz(func(*testing.T, string) {}) }`+"\n")
	targets, err := Targets(dir)
	require.NoError(t, err)
	require.Equal(t, []Target{{"./.", "FuzzBad"}, {"./.", "FuzzGood"}}, targets)

	var out bytes.Buffer
	require.ErrorContains(t, Run(t.Context(), dir, &out, targets, "5x"), "failed: ./. FuzzBad")
	require.Regexp(t, `(?m)^\./\. FuzzBad +\d* +FAILED$`, out.String())
	require.Regexp(t, `(?m)^\./\. FuzzGood +\d+ +passed$`, out.String())
}

func TestAnInterruptedRunSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Run(ctx, root, &bytes.Buffer{}, []Target{{"./.", "FuzzGood"}}, "1s"), context.Canceled)
}
