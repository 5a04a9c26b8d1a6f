package testserver

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// leakPatience is far more than what a server or a gossip member leaves behind
// takes to end: memberlist waits for none of its probes and streams, and these
// have deadlines of up to 5 s.
const leakPatience = time.Minute

// Main is a TestMain that fails the package on leaked goroutines, and ends the
// PostgreSQL server that its tests have shared.
func Main(m *testing.M) {
	sharedPostgres.begin()
	code := m.Run()
	sharedPostgres.end()
	deadline := time.Now().Add(leakPatience)
	err := goleak.Find(leakOptions()...)
	for err != nil && time.Now().Before(deadline) {
		err = goleak.Find(leakOptions()...)
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "leaked goroutines:", err)
		code = 1
	}
	os.Exit(code)
}

// leakOptions leave out what is no leak of ours: a NATS server
// that is shut down in the middle of creating a stream leaves some of its own.
func leakOptions() []goleak.Option {
	const module = "github.com/nats-io/nats-server/v2/server"
	var options []goleak.Option
	for _, function := range []string{
		module + "/ats.Register.func1",
		module + ".(*fileStore).flushStreamStateLoop",
	} {
		options = append(options, goleak.IgnoreTopFunction(function))
	}
	return options
}
