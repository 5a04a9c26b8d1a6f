package suite

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

// Lines as go test -json writes them, without what is not read.
const (
	green = `{"Action":"start","Package":"example/green"}
{"Action":"run","Package":"example/green","Test":"TestSlow"}
{"Action":"output","Package":"example/green","Test":"TestSlow","Output":"=== RUN   TestSlow\n"}
{"Action":"output","Package":"example/green","Test":"TestSlow","Output":"    a_test.go:3: of no interest\n"}
{"Action":"pass","Package":"example/green","Test":"TestSlow","Elapsed":2.5}
{"Action":"output","Package":"example/green","Output":"PASS\n"}
{"Action":"output","Package":"example/green","Output":"ok  \texample/green\t2.600s\n"}
{"Action":"pass","Package":"example/green","Elapsed":2.6}
`
	red = `{"Action":"run","Package":"example/red","Test":"TestWrong"}
{"Action":"output","Package":"example/red","Test":"TestWrong","Output":"=== RUN   TestWrong\n"}
{"Action":"run","Package":"example/red","Test":"TestWrong/part"}
{"Action":"output","Package":"example/red","Test":"TestWrong/part","Output":"    a_test.go:7: two is not one\n"}
{"Action":"output","Package":"example/red","Test":"TestRight","Output":"    a_test.go:9: of no interest\n"}
{"Action":"fail","Package":"example/red","Test":"TestWrong/part","Elapsed":0.1}
{"Action":"fail","Package":"example/red","Test":"TestWrong","Elapsed":0.2}
{"Action":"pass","Package":"example/red","Test":"TestRight","Elapsed":0.3}
{"Action":"output","Package":"example/red","Output":"FAIL\n"}
{"Action":"output","Package":"example/red","Output":"FAIL\texample/red\t0.400s\n"}
{"Action":"fail","Package":"example/red","Elapsed":0.4}
`
	broken = `{"ImportPath":"example/broken [example/broken.test]","Action":"build-output","Output":"a_test.go:1: undefined: x\n"}
{"ImportPath":"example/broken [example/broken.test]","Action":"build-fail"}
{"Action":"output","Package":"example/broken","Output":"FAIL\texample/broken [build failed]\n"}
{"Action":"fail","Package":"example/broken","Elapsed":0,"FailedBuild":"example/broken [example/broken.test]"}
`
	empty = `{"Action":"output","Package":"example/empty","Output":"?   \texample/empty\t[no test files]\n"}
{"Action":"skip","Package":"example/empty","Elapsed":0}
`
	racing = `{"Action":"run","Package":"example/racing","Test":"TestRacing"}
{"Action":"run","Package":"example/racing","Test":"TestOther"}
{"Action":"output","Package":"example/racing","Test":"TestOther","Output":"WARNING: DATA RACE\n"}
{"Action":"output","Package":"example/racing","Test":"TestOther","Output":"--- PASS: TestOther (0.00s)\n"}
{"Action":"pass","Package":"example/racing","Test":"TestOther","Elapsed":0}
{"Action":"output","Package":"example/racing","Test":"TestRacing","Output":"    testing.go:1: race detected\n"}
{"Action":"output","Package":"example/racing","Test":"TestRacing","Output":"--- FAIL: TestRacing (0.10s)\n"}
{"Action":"fail","Package":"example/racing","Test":"TestRacing","Elapsed":0.1}
{"Action":"output","Package":"example/racing","Output":"FAIL\texample/racing\t0.400s\n"}
{"Action":"fail","Package":"example/racing","Elapsed":0.4}
`
	puzzling = `{"Action":"run","Package":"example/puzzling","Test":"TestFirst"}
{"Action":"output","Package":"example/puzzling","Test":"TestFirst","Output":"    a_test.go:3: who knows\n"}
{"Action":"output","Package":"example/puzzling","Test":"TestFirst","Output":"--- PASS: TestFirst (0.00s)\n"}
{"Action":"output","Package":"example/puzzling","Test":"TestFirst","Output":"a process says something\n"}
{"Action":"pass","Package":"example/puzzling","Test":"TestFirst","Elapsed":0}
{"Action":"output","Package":"example/puzzling","Output":"FAIL\texample/puzzling\t0.400s\n"}
{"Action":"fail","Package":"example/puzzling","Elapsed":0.4}
`
	hanging = `{"Action":"run","Package":"example/hanging","Test":"TestLong"}
{"Action":"output","Package":"example/hanging","Test":"TestLong","Output":"    a_test.go:5: still here\n"}
{"Action":"output","Package":"example/hanging","Output":"said at the beginning\n"}
`
)

func TestAReportShowsWhatFailedAndNoMore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, events string
		said         string // while the tests run
		closing      string // its last line
		failures     []string
	}{
		{
			"a package that passes is a line", green,
			"ok  \texample/green\t2.600s\n",
			"1 packages passed, 0 failed, with 1 tests in 4s, 7s of processors", nil,
		},
		{
			"a test that fails is shown with its parts, and without what passed", red,
			"    a_test.go:7: two is not one\nFAIL\nFAIL\texample/red\t0.400s\n",
			"0 packages passed, 1 failed, with 2 tests in 4s, 7s of processors", []string{"example/red TestWrong"},
		},
		{
			"a package that does not compile is shown with the reason", broken,
			"a_test.go:1: undefined: x\nFAIL\texample/broken [build failed]\n",
			"0 packages passed, 1 failed, with 0 tests in 4s, 7s of processors", []string{"example/broken"},
		},
		{
			"what the race detector says is shown, in whoever's name", racing,
			"    testing.go:1: race detected\n--- FAIL: TestRacing (0.10s)\nWARNING: DATA RACE\nFAIL\texample/racing\t0.400s\n",
			"0 packages passed, 1 failed, with 2 tests in 4s, 7s of processors", []string{"example/racing TestRacing"},
		},
		{
			"where all tests passed everything is shown", puzzling,
			"    a_test.go:3: who knows\na process says something\nFAIL\texample/puzzling\t0.400s\n",
			"0 packages passed, 1 failed, with 1 tests in 4s, 7s of processors", []string{"example/puzzling"},
		},
		{
			"a package without tests is not mentioned", empty + green,
			"ok  \texample/green\t2.600s\n",
			"1 packages passed, 0 failed, with 1 tests in 4s, 7s of processors", nil,
		},
		{
			"a package that did not end has failed", hanging,
			"",
			"0 packages passed, 1 failed, with 1 tests in 4s, 7s of processors", []string{"example/hanging TestLong"},
		},
		{
			"what is no event is shown as it is", "go: downloading a module\n" + green,
			"go: downloading a module\nok  \texample/green\t2.600s\n",
			"1 packages passed, 0 failed, with 1 tests in 4s, 7s of processors", nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			r := newReport(&out, false)
			require.NoError(t, r.read(strings.NewReader(c.events)))
			require.Equal(t, c.said, out.String())
			r.took, r.used = 4*time.Second, 7*time.Second
			r.Close()
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			require.Equal(t, c.closing, lines[len(lines)-1])
			require.Equal(t, c.failures, r.Failures())
			require.Equal(t, len(c.failures) == 0, r.Passed())
		})
	}
}

func TestOutputOfTestsThatDidNotEndIsShownAtTheEnd(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := newReport(&out, false)
	require.NoError(t, r.read(strings.NewReader(hanging)))
	r.Close()
	require.Contains(t, out.String(), "a_test.go:5: still here\nsaid at the beginning\n")
}

func TestVerboseOutputIsAll(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := newReport(&out, true)
	require.NoError(t, r.read(strings.NewReader(green)))
	require.Equal(t, "=== RUN   TestSlow\n    a_test.go:3: of no interest\nPASS\nok  \texample/green\t2.600s\n", out.String())
}

func TestTheSlowestComeFirst(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := newReport(&out, false)
	require.NoError(t, r.read(strings.NewReader(red+green)))
	out.Reset()
	r.Close()
	require.Equal(t, `
Slowest packages
    2.6s  example/green
   400ms  example/red

Slowest tests
    2.5s  example/green TestSlow
   300ms  example/red TestRight
   200ms  example/red TestWrong

Failed
  example/red TestWrong

1 packages passed, 1 failed, with 3 tests in 0s, 0s of processors
`, out.String())
}

func TestAReaderThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	require.ErrorIs(t, newReport(&strings.Builder{}, false).read(iotest.ErrReader(broken)), broken)
}
