package e2e_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

// patience bounds every wait of a test; it is far more than anything takes.
const patience = 4 * time.Minute

const partitions = 16

// world is a cluster with what a test needs around it.
type world struct {
	*cluster.Cluster
	t         *testing.T
	ctx       context.Context
	ledger    *ledger.Ledger
	publisher *traffic.Publisher
	log       *traffic.Log // nil before openLog
}

// newWorld lays out a cluster that does not run yet, and ends with the test.
// When the test fails the end of every process's log is shown.
func newWorld(t *testing.T, change ...func(*cluster.Config)) *world {
	t.Helper()
	cfg := cluster.Config{Binaries: binaries, Dir: t.TempDir()}
	for _, f := range change {
		f(&cfg)
	}
	c, err := cluster.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	w := &world{Cluster: c, t: t, ctx: ctx, ledger: ledger.New()}
	t.Cleanup(w.end)
	w.publisher = traffic.NewPublisher(w.ledger, c.Redis.Addr)
	t.Cleanup(func() { _ = w.publisher.Close() })
	return w
}

// openLog gives the world its log, once NATS is there.
func (w *world) openLog() {
	w.t.Helper()
	var err error
	w.log, err = traffic.OpenLog(w.NATS[0].URL())
	require.NoError(w.t, err)
	w.t.Cleanup(w.log.Close)
}

// startWorld is newWorld with everything running and ready.
func startWorld(t *testing.T, change ...func(*cluster.Config)) *world {
	t.Helper()
	w := newWorld(t, change...)
	require.NoError(t, w.Start(w.ctx))
	w.openLog()
	return w
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
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			return false
		}
	}
	return true
}
