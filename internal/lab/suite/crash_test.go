package suite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// crashing are packages that end otherwise than with a test that fails, each with what
// has to be read to find out why.
var crashing = map[string]struct {
	text  string
	says  []string
	fails string // what has failed
}{
	"init": {`
import "testing"

var _ = func() int { panic("before any test") }()

func TestFirst(*testing.T) {}
`, []string{"panic: before any test", "init_test.go:5"}, "crashing/init"},
	"main": {`
import ("fmt"; "os"; "testing")

func TestMain(m *testing.M) {
	code := m.Run()
	fmt.Fprintln(os.Stderr, "something was left behind")
	os.Exit(code + 3)
}

func TestFirst(*testing.T) {}
`, []string{"something was left behind"}, "crashing/main"},
	"mainpanic": {`
import "testing"

func TestMain(m *testing.M) {
	m.Run()
	panic("after all tests")
}

func TestFirst(*testing.T) {}
`, []string{"panic: after all tests", "mainpanic_test.go:7"}, "crashing/mainpanic"},
	"goroutine": {`
import "testing"

var end = make(chan struct{})

func TestFirst(t *testing.T) {
	t.Log("of the first")
	go func() { <-end; panic("in the background") }()
}

func TestSecond(t *testing.T) {
	t.Log("of the second")
	close(end)
	select {}
}
`, []string{"panic: in the background", "goroutine_test.go:9", "of the second"}, "crashing/goroutine TestSecond"},
	"exit": {`
import ("os"; "testing")

func TestFirst(t *testing.T) {
	println("this does not work")
	os.Exit(7)
}
`, []string{"this does not work"}, "crashing/exit TestFirst"},
	"silent": {`
import ("os"; "testing")

func TestFirst(*testing.T) { os.Exit(7) }
`, nil, "crashing/silent TestFirst"},
	"uncompiled": {`
import "testing"

func TestFirst(*testing.T) { undefined() }
`, []string{"uncompiled_test.go:5:30: undefined: undefined", "build failed"}, "crashing/uncompiled"},
	"unfound": {`
import (_ "crashing/nowhere"; "testing")

func TestFirst(*testing.T) {}
`, []string{"unfound_test.go:3:9: package crashing/nowhere is not in std", "setup failed"}, "crashing/unfound"},
}

// Whatever belongs to no test that failed is needed to find out why a package did.
func TestWhateverEndsAPackageIsSaid(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("go.mod", []byte("module crashing\n"), 0o600))
	for name, c := range crashing {
		write(t, name, c.text)
	}
	var out strings.Builder
	report, err := Run(t.Context(), &out, false, "-count=1", "./...")
	require.NoError(t, err)
	report.Close()
	for name, c := range crashing {
		for _, said := range c.says {
			require.Contains(t, out.String(), said, name)
		}
		require.Contains(t, report.Failures(), c.fails)
	}
	require.Len(t, report.Failures(), len(crashing))
	require.NotContains(t, out.String(), "of the first")
}

// Regression: the stacks of a package that ran out of time were lost where a test had
// passed before: go test takes them for what that one has to say.
func TestWhereAPackageHangsIsSaid(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("go.mod", []byte("module hanging\n"), 0o600))
	write(t, "hanging", `
import ("testing"; "time")

func TestHanging(t *testing.T) {
	t.Parallel()
	for { <-time.After(time.Hour) }
}

func TestQuick(t *testing.T) {
	t.Parallel()
	t.Run("part", func(*testing.T) {})
}
`)
	var out strings.Builder
	report, err := Run(t.Context(), &out, false, "-count=1", "-timeout=1s", "./...")
	require.NoError(t, err)
	report.Close()
	require.Contains(t, out.String(), "panic: test timed out after 1s")
	require.Contains(t, out.String(), "hanging_test.go:7")
	require.Equal(t, []string{"hanging/hanging TestHanging"}, report.Failures())
}

// write writes a package with one file.
func write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.Mkdir(name, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(name, name+"_test.go"), []byte("package "+name+"\n"+text), 0o600))
}
