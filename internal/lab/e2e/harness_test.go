package e2e_test

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// patience bounds a whole test. It ends what hangs, and is far more than anything
// takes.
const patience = 10 * time.Minute

const partitions = 16

// room is what every cluster is given that is not about a limit: on a machine that
// does other work, none of the gateway's own is to be met by chance, and no event
// to go because there are newer ones.
var room = map[string]string{
	"SHUTDOWN_TIMEOUT": "10m", "WS_AUTH_TIMEOUT": "2m", "WS_WRITE_TIMEOUT": "2m", "ACK_TIMEOUT": "10m",
	"EVENTS_PER_ORCHESTRATOR": "10000",
}

// world is a cluster with what a test needs around it.
type world struct {
	*lab.World
	t   *testing.T
	ctx context.Context
}

// newWorld lays out a cluster that does not run yet, and ends with the test.
// When the test fails the end of every process's log is shown.
func newWorld(t *testing.T, change ...func(*cluster.Config)) *world {
	t.Helper()
	cfg := cluster.Config{}
	for _, f := range change {
		f(&cfg)
	}
	settings := maps.Clone(room)
	maps.Copy(settings, cfg.Settings)
	cfg.Settings = settings
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	w := &world{World: &lab.World{Dir: t.TempDir(), Binaries: binaries}, t: t, ctx: ctx}
	require.NoError(t, w.LayOut(cfg))
	t.Cleanup(w.end)
	return w
}

// connect gives the world what is around the cluster, once NATS is there.
func (w *world) connect() {
	w.t.Helper()
	require.NoError(w.t, w.Connect())
	w.Feed.Timeout = patience
}

// startWorld is newWorld with everything running and ready.
func startWorld(t *testing.T, change ...func(*cluster.Config)) *world {
	t.Helper()
	w := newWorld(t, change...)
	require.NoError(t, w.Start(w.ctx))
	w.connect()
	return w
}

// record tells the ledger what the log holds, however long that takes.
func (w *world) record() {
	w.t.Helper()
	require.NoError(w.t, w.Log.Record(w.ctx, w.Ledger, w.Partitions))
}

func with(settings map[string]string) func(*cluster.Config) {
	return func(cfg *cluster.Config) { cfg.Settings = settings }
}

func (w *world) end() {
	w.Close()
	for _, crash := range w.Crashes() {
		w.t.Error(crash)
	}
	if w.t.Failed() {
		w.t.Log(w.Report(15))
	}
}

// eventually waits for a condition.
func (w *world) eventually(condition func() bool, message string, args ...any) {
	w.t.Helper()
	require.Truef(w.t, w.within(condition), message, args...)
}

// within reports whether a condition came true in time. Unlike
// require.Eventually it asks at once, and never twice at a time.
func (w *world) within(condition func() bool) bool {
	return w.repeat(condition, process.Pause)
}

// repeat does something until it has come true, after each time with a pause that
// depends on how long it took, and reports whether it came true in time.
func (w *world) repeat(do func() bool, pause func(took time.Duration) time.Duration) bool {
	for {
		began := time.Now()
		if do() {
			return true
		}
		select {
		case <-time.After(max(shortestPause, pause(time.Since(began)))):
		case <-w.ctx.Done():
			return false
		}
	}
}

const shortestPause = 50 * time.Millisecond
