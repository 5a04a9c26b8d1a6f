package process_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

func TestStalledProcessesStandStillUntilTheyAreResumed(t *testing.T) {
	t.Parallel()
	for role, generations := range map[string]int{roleCounter: 0, roleParent: 1} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			file := counters(t)
			p := start(t, role, fileVariable+"="+file)
			said(t, p, counting)
			for range 3 {
				resume := process.Stall(p.ID(), generations)
				still(t, file)
				resume()
				goesOn(t, file)
			}
		})
	}
}

func TestGenerationsThatAreNotMeantGoOn(t *testing.T) {
	t.Parallel()
	file := counters(t)
	p := start(t, roleParent, fileVariable+"="+file)
	said(t, p, counting)
	resume := process.Stall(p.ID(), 0)
	defer resume()
	goesOn(t, file)
}

// A process that was paused before the stall of its parent is still paused after
// it.
func TestWhatIsPausedAlreadyIsNotLetGoOn(t *testing.T) {
	t.Parallel()
	file := counters(t)
	p := start(t, roleCounter, fileVariable+"="+file)
	said(t, p, counting)
	require.NoError(t, p.Pause())
	process.Stall(p.ID(), 1)()
	still(t, file)
	p.Resume()
	goesOn(t, file)
}
