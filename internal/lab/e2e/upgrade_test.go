package e2e_test

import (
	"cmp"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/balancer"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// beforeReleases is the commit of the version that stands in for the last release as
// long as there is none: the last one before the generations of cursors.
const beforeReleases = "803e929"

// lastRelease returns the tag of the newest release before this version, "" if
// there is none, or no history.
func lastRelease(t *testing.T) string {
	t.Helper()
	tag, err := exec.CommandContext(t.Context(), "git", "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(tag))
}

// olderVersion are the gateway's programs as of the last release, or of the tag or
// commit that UPGRADE_FROM names (see scripts/try-upgrade). Where the history of the
// repository is not at hand, this version stands in for it.
func olderVersion(t *testing.T) cluster.Binaries {
	t.Helper()
	named := os.Getenv("UPGRADE_FROM")
	commit := cmp.Or(named, lastRelease(t), beforeReleases)
	hash, err := exec.CommandContext(t.Context(), "git", "rev-parse", "--verify", "--quiet", commit+"^{commit}").Output()
	if err != nil {
		require.Empty(t, named, "there is no such commit")
		t.Logf("commit %s is not here, so this version is rolled out over itself", commit)
		return binaries
	}
	t.Logf("this version is rolled out over %s", commit)
	dir, err := process.Keep("gateway-"+strings.TrimSpace(string(hash)), func(path string) error {
		return buildCommit(t, commit, path)
	})
	require.NoError(t, err)
	older, err := cluster.Built(dir)
	require.NoError(t, err)
	older.NATS, older.Redis = binaries.NATS, binaries.Redis
	return older
}

// buildCommit builds the gateway's programs as of a commit into a folder.
func buildCommit(t *testing.T, commit, into string) error {
	source := t.TempDir()
	root, files := io.Pipe()
	archive := exec.CommandContext(t.Context(), "git", "archive", commit)
	archive.Dir, archive.Stdout = "../../..", files
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", source)
	unpack.Stdin = root
	if err := unpack.Start(); err != nil {
		return err
	}
	err := archive.Run()
	_ = files.CloseWithError(err)
	if err := errors.Join(err, unpack.Wait()); err != nil {
		return err
	}
	return cluster.BuildPrograms(t.Context(), source, into)
}

// rollout replaces the processes of a cluster one after the other, each stopped
// gracefully, while events flow.
type rollout struct {
	*population
	lb          *balancer.Balancer
	seen        *manners
	drainPeriod time.Duration
}

func (r rollout) restart(p *process.Process, program string, ready func() error) {
	t := r.w.t
	t.Helper()
	p.Replace(program)
	began := time.Now()
	require.NoError(t, p.Stop(r.w.ctx), "it ends gracefully, with exit code 0")
	ended := time.Since(began)
	require.NoError(t, p.Start())
	require.NoError(t, ready())
	t.Logf("%s ended after %s and was back after %s", p.Name(), ended, time.Since(began))
	r.publish(200)
}

func (r rollout) everybodyReady() error { return r.w.AwaitReady(r.w.ctx) }

// edges has each edge's daemons asked to reconnect, a few at a time.
func (r rollout) edges(to cluster.Binaries) {
	t := r.w.t
	t.Helper()
	for _, e := range r.w.Edges {
		require.NoError(t, r.lb.TakeOut(r.w.ctx, host(e)))
		held := r.lb.Connections(host(e))
		r.restart(e.Process, to.Edge, r.everybodyReady)
		r.lb.PutIn(host(e))
		delays := r.seen.take()
		t.Logf("%s held %d daemons", e.Name(), held)
		require.Len(t, delays, held, "each of its daemons is asked, and no other one")
		requireSpread(t, delays, r.drainPeriod)
	}
}

func (r rollout) routers(to cluster.Binaries) {
	r.w.t.Helper()
	for _, n := range r.w.Routers {
		r.restart(n.Process, to.Router, r.everybodyReady)
	}
}

func (r rollout) bridges(to cluster.Binaries) {
	r.w.t.Helper()
	for _, n := range r.w.Bridges {
		r.restart(n.Process, to.Bridge, r.everybodyReady)
	}
}

func (r rollout) nats() {
	r.w.t.Helper()
	for _, s := range r.w.NATS {
		r.w.awaitCopies()
		r.restart(s.Process, binaries.NATS, func() error { return s.AwaitReady(r.w.ctx) })
	}
}

// A version is rolled out over the one before, and rolled back: every process is
// stopped gracefully and replaced, one after the other, while events flow. Daemons
// are asked to reconnect, a few at a time, and see nothing else.
func TestARolloutAndItsRollbackShowDaemonsOnlyReconnects(t *testing.T) {
	t.Parallel()
	const drainPeriod = 2 * time.Second
	older := olderVersion(t)
	w := startWorld(t, func(cfg *cluster.Config) {
		cfg.NATS, cfg.Binaries = 3, older
		cfg.Settings = map[string]string{"STREAM_REPLICAS": "3", "DRAIN_PERIOD": drainPeriod.String(), "BALANCE_RATE": "0"}
	})
	p := w.populate(100)
	r := rollout{p, p.front(), p.watch(), drainPeriod}
	w.enter(p.everybody()...)
	p.load()
	p.publish(500)

	r.edges(binaries)
	r.routers(binaries)
	r.bridges(binaries)
	r.nats()
	require.NoError(t, r.everybodyReady())
	p.publish(500)
	r.bridges(older)
	r.edges(older)
	r.routers(older)

	require.NoError(t, r.everybodyReady())
	p.publish(500)
	p.endLoad()
	p.settle(ledger.Promise{})
	require.Empty(t, r.seen.take(), "only edges ask daemons to reconnect")
	require.Empty(t, r.seen.rudeness(), "and nobody sees an error")
	// A bridge that comes back may publish before the one that has a backlog.
	p.judge(ledger.Promise{})
}
