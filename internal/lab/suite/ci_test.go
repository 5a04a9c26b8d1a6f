package suite

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// runCI runs .ci/run with a make that says its target and fails where told, and
// returns what it said and its exit code.
func runCI(t *testing.T, failing string) (said string, code int) {
	t.Helper()
	programs := t.TempDir()
	stub := "#!/bin/sh\necho the output of $1\ncase \" " + failing + " \" in *\" $1 \"*) exit 2;; esac\n"
	require.NoError(t, os.WriteFile(filepath.Join(programs, "make"), []byte(stub), 0o755))
	ci := exec.CommandContext(t.Context(), filepath.Join("..", "..", "..", ".ci", "run"))
	ci.Env = append(os.Environ(), "PATH="+programs+string(filepath.ListSeparator)+os.Getenv("PATH"))
	output, err := ci.CombinedOutput()
	if ci.ProcessState == nil {
		require.NoError(t, err)
	}
	return string(output), ci.ProcessState.ExitCode()
}

func TestCITellsHowEveryPartWentWhicheverFails(t *testing.T) {
	t.Parallel()
	targets := map[string]string{"lint": "lint", "vulnerabilities": "vulnerabilities", "build": "build", "check-deploy": "check-deploy", "test": "test", "race": "race", "chaos-short": "chaos-short"}
	all := slices.Collect(maps.Values(targets))
	for _, failing := range append([]string{"", "lint race", strings.Join(all, " ")}, all...) {
		t.Run(failing, func(t *testing.T) {
			t.Parallel()
			said, code := runCI(t, failing)
			for part, target := range targets {
				require.Contains(t, said, "the output of "+target+"\n")
				verdict := "passed"
				if slices.Contains(strings.Fields(failing), target) {
					verdict = "FAILED"
				}
				require.Regexp(t, "(?m)^"+verdict+" +"+part+" +[0-9]+ s +[0-9]+ s of processors$", said)
			}
			failed := len(strings.Fields(failing))
			require.Regexp(t, "(?m)^[0-9] passed, [0-9] failed, in [0-9]+ s\n\\z", said)
			require.Equal(t, failed > 0, code != 0)
		})
	}
}
