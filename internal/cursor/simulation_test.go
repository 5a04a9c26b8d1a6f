package cursor

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
)

const (
	simulationSteps = 250
	mistakeRuns     = 20000
)

// mistake is a tempting simplification that the harness puts in the place of
// the real functions, to show that the simulation would notice.
type mistake string

const (
	none          mistake = "none"
	startNow      mistake = "a new id starts from now while others seem connected"
	connectedLow  mistake = "a new id starts from the lowest floor of those that seem gone"
	shared        mistake = "one floor for the whole orchestrator"
	narrow        mistake = "a successor removes entries that want more than it does"
	skipEarly     mistake = "a session moves on before its daemon has subscribed"
	othersRanges  mistake = "a new id inherits the settled ranges of any other daemon"
	dropEvicted   mistake = "what leaves a full record is forgotten"
	keepEpoch     mistake = "floors of another epoch are believed"
	lateEpoch     mistake = "saves of an older epoch are accepted"
	resumeRemoves mistake = "who resumes above an entry's floor removes the entry"
	forgetIDs     mistake = "a successor does not answer for the ids it removes"
	blindWrite    mistake = "a save writes the record as it was at the start"
)

// TestSimulation drives the real Start, Merge and reapply through random
// histories: daemons with ids kept or new at every login, half-open sockets, a
// stale directory, crashing edges, lost, delayed and repeated saves, lagging
// reads, filters, addressed events, resume, a log that is rolled back, records
// that are full. It checks invariants 1 and 2, and 3 by way of 1. Checked by
// TestSimulationCatches.
func TestSimulation(t *testing.T) {
	t.Parallel()
	seed, err := simulate(none, budget.Runs[uint64](4000, 200_000))
	require.NoError(t, err, "seed %d", seed)
}

func TestSimulationCatches(t *testing.T) {
	t.Parallel()
	for _, m := range []mistake{
		startNow, connectedLow, shared, narrow, skipEarly, othersRanges, dropEvicted,
		keepEpoch, lateEpoch, resumeRemoves, forgetIDs, blindWrite,
	} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			seed, err := simulate(m, mistakeRuns)
			require.Error(t, err, "not noticed in %d runs", mistakeRuns)
			t.Logf("seed %d: %v", seed, err)
		})
	}
}

// simulate runs the seeds from 0 on and returns the first violation found.
func simulate(m mistake, runs uint64) (seed uint64, violation error) {
	var (
		mu   sync.Mutex
		next uint64
		wait sync.WaitGroup
	)
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= runs && violation == nil
	}
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for s, ok := take(); ok; s, ok = take() {
				if err := runWorld(s, m); err != nil {
					mu.Lock()
					if violation == nil || s < seed {
						seed, violation = s, err
					}
					mu.Unlock()
				}
			}
		})
	}
	wait.Wait()
	return seed, violation
}

func runWorld(seed uint64, m mistake) (err error) {
	w := newWorld(rand.New(rand.NewPCG(seed, 1)), m)
	for range simulationSteps {
		w.step()
		if w.violation != nil {
			return fmt.Errorf("after the step: %w", w.violation)
		}
	}
	return w.settle()
}
