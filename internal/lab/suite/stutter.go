package suite

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// A test binary that stutters runs for a while, then stands still for a while,
// as on a machine that has no time for it.
const (
	shortestRun, longestRun   = 500 * time.Millisecond, 3 * time.Second
	shortestHalt, longestHalt = 50 * time.Millisecond, 1500 * time.Millisecond
)

// stutterCommand tells this program, as which go test has started it for a test
// binary (-exec), to have it stutter. The seed and the binary's command follow.
const stutterCommand = "stutter"

// stutterFlag is the flag of go test that has every test binary stutter.
func stutterFlag(seed uint64) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return fmt.Sprintf("-exec='%s' %s %d", self, stutterCommand, seed), nil
}

// StutterIfAsked runs a test binary that stutters where this process was started
// for that, and exits as it does.
func StutterIfAsked() {
	if len(os.Args) < 4 || os.Args[1] != stutterCommand {
		return
	}
	seed, err := strconv.ParseUint(os.Args[2], 10, 64)
	code := 1
	if err == nil {
		code, err = stutter(seed, os.Args[3:], os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stutter:", err)
	}
	os.Exit(code)
}

// stutter runs a command that stutters, with all that it starts, and returns its
// exit code. It says at the end when the command stood still, for how long.
func stutter(seed uint64, command []string, out io.Writer) (code int, err error) {
	binary := exec.Command(command[0], command[1:]...)
	binary.Stdin, binary.Stdout, binary.Stderr = os.Stdin, os.Stdout, os.Stderr
	// go test asks for the end of what it has started, which is this process.
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM)
	if err := binary.Start(); err != nil {
		return 1, fmt.Errorf("start the tests: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- binary.Wait() }()

	random, began := rand.New(rand.NewPCG(seed, 0)), time.Now()
	var halts []string
	for {
		select {
		case err = <-ended:
			_, _ = fmt.Fprintf(out, "stuttered from seed %d, stood still at %s\n", seed, strings.Join(halts, ", "))
			if exit := new(exec.ExitError); errors.As(err, &exit) {
				return max(1, exit.ExitCode()), nil // -1 for a signal
			}
			return 0, err
		case s := <-asked:
			_ = binary.Process.Signal(s)
		case <-time.After(between(random, shortestRun, longestRun)):
			at := time.Since(began)
			length := halt(random, binary.Process.Pid)
			halts = append(halts, fmt.Sprintf("%s for %s", round(at), length.Round(time.Millisecond)))
		}
	}
}

// halt has a process stand still for a while, with all that it has started or
// alone. It returns how long that was.
func halt(random *rand.Rand, id int) time.Duration {
	const all = 100
	generations := all * random.IntN(2)
	length := between(random, shortestHalt, longestHalt)
	resume := process.Stall(id, generations)
	defer resume()
	time.Sleep(length)
	return length
}

func between(random *rand.Rand, shortest, longest time.Duration) time.Duration {
	return shortest + time.Duration(random.Int64N(int64(longest-shortest)))
}
