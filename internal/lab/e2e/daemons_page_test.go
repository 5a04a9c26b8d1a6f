package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// repository is its root, from here.
const repository = "../../.."

// code returns the program in a language that docs/daemons.md has.
func code(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(repository, "docs", "daemons.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(page), "\n```"+language+"\n")
	require.True(t, found, language)
	program, _, found := strings.Cut(rest, "\n```\n")
	require.True(t, found, language)
	return program + "\n"
}

// written puts the program into a file.
func written(t *testing.T, name, program string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(program), 0o600))
	return path
}

// pageDaemon is a daemon of docs/daemons.md.
type pageDaemon struct {
	w            *world
	orchestrator protocol.OrchestratorID
	command      func(t *testing.T) *exec.Cmd
	published    int

	mu      sync.Mutex
	handled []string // ids of events, in order
}

// start runs the daemon with a token until stop is called, which returns its exit code.
func (d *pageDaemon) start(t *testing.T, token string) (stop func(os.Signal) int) {
	t.Helper()
	cmd := d.command(t)
	cmd.Env = append(os.Environ(), cmd.Env...)
	cmd.Env = append(cmd.Env, "GATEWAY_URL="+d.w.Edges[0].URL, "ACCESS_TOKEN="+token, "ORCHESTRATOR_ID="+string(d.orchestrator), "DAEMON_ID=worker-1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "handled" {
				d.mu.Lock()
				d.handled = append(d.handled, fields[1])
				d.mu.Unlock()
			}
		}
	}()
	return func(signal os.Signal) int {
		if signal != nil {
			require.NoError(t, cmd.Process.Signal(signal))
		}
		<-read
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode()
	}
}

// event is the id of the n-th event for the daemon.
func (d *pageDaemon) event(n int) string { return fmt.Sprintf("%s_%d", d.orchestrator, n) }

// publish publishes events for the daemon.
func (d *pageDaemon) publish(t *testing.T, n int) {
	t.Helper()
	for range n {
		d.published++
		require.NoError(t, d.w.Feed.Publish(d.w.ctx, traffic.IntoLog, event.Event{
			ID: d.event(d.published), Type: "message.received", OrchestratorID: d.orchestrator, RequiresAck: true,
			Payload: json.RawMessage(`{"content":"hello"}`),
		}))
	}
}

// settle waits until all that was published is handled, each event once and in order.
func (d *pageDaemon) settle(t *testing.T) {
	t.Helper()
	var want []string
	for i := range d.published {
		want = append(want, d.event(i+1))
	}
	now := func() []string {
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.Clone(d.handled)
	}
	d.w.eventually(func() bool { return len(now()) >= len(want) }, "%s: not all of %d events are handled", d.orchestrator, len(want))
	require.Equal(t, want, now())
}

func TestDaemonsOfThePageWork(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	binary := filepath.Join(t.TempDir(), "daemon")
	require.NoError(t, process.GoBuild(w.ctx, repository, binary, written(t, "main.go", code(t, "go"))))
	js, py := written(t, "daemon.js", code(t, "js")), written(t, "daemon.py", code(t, "python"))
	daemons := []*pageDaemon{
		{w: w, orchestrator: "vp_go", command: func(t *testing.T) *exec.Cmd { return exec.CommandContext(t.Context(), binary) }},
		{w: w, orchestrator: "vp_js", command: func(t *testing.T) *exec.Cmd { return testserver.Node(t, js) }},
		{w: w, orchestrator: "vp_py", command: func(t *testing.T) *exec.Cmd { return testserver.Python(t, py) }},
	}
	each := func(do func(d *pageDaemon)) {
		for _, d := range daemons {
			do(d)
		}
	}
	stops := map[*pageDaemon]func(os.Signal) int{}
	start := func(d *pageDaemon) { stops[d] = d.start(t, sign(t, d.orchestrator, "worker-1", nil)) }

	each(start)
	each(func(d *pageDaemon) { d.publish(t, 20) })
	each(func(d *pageDaemon) { d.settle(t) })

	// The edge goes, and asks its daemons to come back.
	require.NoError(t, w.Edges[0].Stop(w.ctx))
	each(func(d *pageDaemon) { d.publish(t, 10) })
	require.NoError(t, w.Edges[0].Start())
	each(func(d *pageDaemon) { d.settle(t) })

	// The edge is killed.
	w.Edges[0].Kill()
	each(func(d *pageDaemon) { d.publish(t, 10) })
	require.NoError(t, w.Edges[0].Start())
	each(func(d *pageDaemon) { d.settle(t) })

	// The daemons are stopped, and go on where they were.
	each(func(d *pageDaemon) { require.Zero(t, stops[d](syscall.SIGTERM), d.orchestrator) })
	each(func(d *pageDaemon) { d.publish(t, 5) })
	each(start)
	each(func(d *pageDaemon) { d.settle(t) })
	each(func(d *pageDaemon) { require.Zero(t, stops[d](syscall.SIGTERM), d.orchestrator) })

	// A token that is not accepted ends them.
	each(func(d *pageDaemon) {
		stop := d.start(t, signWith(t, "another secret of thirty-two bytes or more", d.orchestrator, "worker-1", nil))
		require.Positive(t, stop(nil), d.orchestrator)
	})
}
