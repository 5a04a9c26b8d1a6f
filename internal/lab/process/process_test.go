package process_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

const patience = testserver.Patience

// start starts this test's program once more, as one of its children.
func start(t *testing.T, role string, environ ...string) *process.Process {
	t.Helper()
	// Without signals of Go's own, which would keep a thread from taking ours.
	environ = append(environ, roleVariable+"="+role, "GODEBUG=asyncpreemptoff=1")
	p := process.New(process.Config{Name: role, Dir: t.TempDir(), Program: os.Args[0], Env: environ})
	require.NoError(t, p.Start())
	t.Cleanup(p.Kill)
	return p
}

// said waits until a process has written a line.
func said(t *testing.T, p *process.Process, line string) {
	t.Helper()
	require.Eventually(t, func() bool { return p.Tail(1) == line }, patience, time.Millisecond)
}

// still requires that nothing counts in a file that processes count in.
func still(t *testing.T, file string) {
	t.Helper()
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	for range 100 { // as long as many a thread runs before it gives way to another one
		after, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, before, after)
	}
}

func goesOn(t *testing.T, file string) {
	t.Helper()
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		after, err := os.ReadFile(file)
		return err == nil && string(after) != string(before)
	}, patience, time.Millisecond)
}

// A fault has begun when Pause returns: a process with more threads than there
// are cores may run on for long before it gets to the signal.
func TestPausedProcessStandsStillWhenPauseReturns(t *testing.T) {
	t.Parallel()
	for _, role := range []string{roleCounter, roleParent} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			file := counters(t)
			p := start(t, role, fileVariable+"="+file)
			said(t, p, counting)
			for range 3 {
				require.NoError(t, p.Pause())
				still(t, file)
				p.Resume()
				goesOn(t, file)
			}
		})
	}
}

// The system continues a process group that has become an orphan, which ends the
// pause of all in it: a paused process must not share its group with any that
// may end.
func TestAProcessIsInAGroupOfItsOwn(t *testing.T) {
	t.Parallel()
	p := start(t, roleCounter, fileVariable+"="+counters(t))
	group, err := syscall.Getpgid(p.ID())
	require.NoError(t, err)
	require.Equal(t, p.ID(), group)
}

// A server that is killed with its children can be started again at once: none
// of them still holds its port.
func TestKilledProcessLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	address, err := process.Reserve(process.Loopback)
	require.NoError(t, err)
	p := start(t, roleParentOfListener, addressVariable+"="+address)
	for _, paused := range []bool{false, true, false} {
		said(t, p, listening)
		if paused {
			require.NoError(t, p.Pause())
		}
		p.Kill()
		require.False(t, p.Running())
		l, err := net.Listen("tcp", address)
		require.NoError(t, err)
		require.NoError(t, l.Close())
		require.NoError(t, os.Truncate(p.LogFile(), 0))
		require.NoError(t, p.Start())
	}
}

func TestProcessThatEndsByItselfIsNoticedAndCanBeStartedAgain(t *testing.T) {
	t.Parallel()
	p := start(t, roleCrash)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := p.Await(ctx, func() error { return os.ErrNotExist })
	require.ErrorContains(t, err, "crash has ended; it wrote:\nout of order", "nobody waits for it any longer")
	select {
	case <-p.Ended():
	case <-ctx.Done():
		t.Fatal("its end is not told")
	}
	require.False(t, p.Running())
	code, err := p.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, crashCode, code)

	require.ErrorContains(t, p.Pause(), "does not run")
	p.Resume()
	p.Kill()
	require.NoError(t, p.Stop(ctx))

	require.NoError(t, p.Start())
	_, err = p.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, "out of order\nout of order", p.Tail(5), "what it wrote before is kept")
}

func TestStopIsGracefulOrFails(t *testing.T) {
	t.Parallel()
	for code, complaint := range map[string]string{"0": "", "3": "exited with code 3"} {
		p := start(t, roleGraceful, codeVariable+"="+code)
		said(t, p, ready+" "+os.Args[0])
		err := p.Stop(t.Context())
		if complaint == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, complaint)
		}
		require.False(t, p.Running())
		require.NoError(t, p.Stop(t.Context()), "it is left alone")
	}
}

func TestProcessThatDoesNotStopInTimeRunsOn(t *testing.T) {
	t.Parallel()
	p := start(t, roleStubborn)
	said(t, p, ready)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Stop(ctx), context.DeadlineExceeded)
	require.True(t, p.Running())
}

func TestReplacedProgramRunsFromTheNextStartOn(t *testing.T) {
	t.Parallel()
	p := start(t, roleGraceful, codeVariable+"=0")
	said(t, p, ready+" "+os.Args[0])
	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.Link(os.Args[0], other))
	p.Replace(other)
	require.NoError(t, p.Stop(t.Context()))
	require.NoError(t, p.Start())
	said(t, p, ready+" "+other)
}

func TestPrefixIsPutBeforeTheCommand(t *testing.T) {
	t.Parallel()
	p := process.New(process.Config{
		Name: "child", Dir: t.TempDir(), Prefix: []string{"env", "NAME=value"}, Program: "sh", Args: []string{"-c", "echo $NAME $$"},
	})
	require.NoError(t, p.Start())
	code, err := p.Wait(t.Context())
	require.NoError(t, err)
	require.Zero(t, code)
	require.Regexp(t, `^value \d+$`, p.Tail(1))
}

// Nobody's server finds its port taken by another test, of this program or of
// another one that runs at the same time.
func TestNoAddressIsGivenTwice(t *testing.T) {
	t.Parallel()
	p := start(t, roleOwner)
	require.Eventually(t, func() bool { return strings.HasSuffix(p.Tail(1), ready) }, patience, time.Millisecond)
	given := map[string]bool{}
	for _, address := range strings.Fields(p.Tail(1)) {
		given[address] = true
	}
	require.Len(t, given, addressesOwned+1, "and that it is ready")
	for range addressesOwned {
		address, err := process.Reserve(process.Loopback)
		require.NoError(t, err)
		require.False(t, given[address], address)
		given[address] = true
	}
}

func TestWhatIsKeptIsMadeOnce(t *testing.T) {
	t.Parallel()
	name, made := fmt.Sprintf("test-%d", os.Getpid()), 0
	_, err := process.Keep(name, func(string) error { return errors.New("not made") })
	require.ErrorContains(t, err, "not made")
	for range 2 {
		path, err := process.Keep(name, func(path string) error {
			made++
			return os.WriteFile(path, []byte("made"), 0o600)
		})
		require.NoError(t, err)
		t.Cleanup(func() { _ = os.Remove(path) })
		require.FileExists(t, path)
	}
	require.Equal(t, 1, made)
}
