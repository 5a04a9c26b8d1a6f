package suite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	ComputeIfAsked()
	StutterIfAsked()
	os.Exit(m.Run())
}

// A module of its own with a test that passes once and then never again.
const fickle = `package fickle

import (
	"os"
	"testing"
)

func TestFickle(t *testing.T) {
	if err := os.Mkdir("been here", 0o755); err != nil {
		t.Fatal("not again")
	}
}
`

func TestRunsAreRepeatedAndCountedBesideBusyLoops(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("go.mod", []byte("module fickle\n"), 0o600))
	require.NoError(t, os.Mkdir("steady", 0o755))
	require.NoError(t, os.WriteFile(filepath.Join("steady", "steady_test.go"), []byte("package steady\n"), 0o600))
	require.NoError(t, os.WriteFile("fickle_test.go", []byte(fickle), 0o600))
	var out, log strings.Builder

	r := Repetition{Packages: [][]string{{"."}, {"./steady"}}, Times: 2, Busy: 1}
	passed, err := r.Repeat(t.Context(), &out, &log)

	require.NoError(t, err)
	require.False(t, passed)
	require.Regexp(t, `\., run 1 of 2, took .*: passed
\., run 2 of 2, took .*: FAILED: fickle TestFickle
\./steady, run 1 of 2, took .*: passed`, out.String())
	require.Contains(t, log.String(), "not again")
	require.Contains(t, out.String(), "1 busy loops beside the tests")
	require.Regexp(t, "\\| `\\.` \\| 1 of 2 \\| .+, .+ \\|\n\\| `\\./steady` \\| 2 of 2 \\| .+, .+ \\|\n$", out.String())
}

func TestNoPackageToTestIsAnError(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("go.mod", []byte("module empty\n"), 0o600))
	_, err := Run(t.Context(), &strings.Builder{}, false, "./...")
	require.Error(t, err)
}
