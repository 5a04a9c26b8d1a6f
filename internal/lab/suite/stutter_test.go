package suite

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A module of its own whose test ends once it was let go on after a halt, and
// its child, too, and then fails.
const halting = `package halting

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
)

func TestHalting(t *testing.T) {
	halted := make(chan os.Signal, 1)
	signal.Notify(halted, syscall.SIGCONT)
	if os.Getenv("CHILD") == "" {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "CHILD=1")
		if err := child.Run(); err == nil {
			t.Fatal("the child has not failed")
		}
	}
	<-halted
	t.Fatal("halted")
}
`

func TestTestsStutterWithAllThatTheyStart(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("go.mod", []byte("module halting\n"), 0o600))
	require.NoError(t, os.WriteFile("halting_test.go", []byte(halting), 0o600))
	var out, log strings.Builder

	r := Repetition{Packages: [][]string{{"."}}, Times: 2, Stutter: 7}
	passed, err := r.Repeat(t.Context(), &out, &log)

	require.NoError(t, err)
	require.False(t, passed, "the exit code is the tests'")
	require.Contains(t, log.String(), "halted")
	require.NotContains(t, log.String(), "the child has not failed")
	for _, seed := range []string{"7", "8"} {
		require.Regexp(t, "stuttered from seed "+seed+`, stood still at [0-9.ms]+ for [0-9]`, log.String())
	}
	require.Contains(t, out.String(), "which stutter from seed 7")
}
