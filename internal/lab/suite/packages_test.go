package suite

import (
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatTakesLongestIsBegunFirst(t *testing.T) {
	t.Chdir("../../..")
	tested, err := Tested(t.Context(), []string{"./..."})
	require.NoError(t, err)
	ordered, err := LongestFirst(t.Context(), []string{"./..."})
	require.NoError(t, err)

	var begun []string
	for _, name := range longest {
		begun = append(begun, "./"+name)
	}
	require.Equal(t, begun, ordered[:len(begun)], "each of the longest is a package with tests")
	slices.Sort(ordered)
	require.Equal(t, tested, ordered, "and none is left out")
}

// What CI runs under the race detector, and beside that without, is all.
func TestTheRaceDetectorLeavesOutOnlyWhatRunsThePrograms(t *testing.T) {
	t.Chdir("../../..")
	tested, err := Tested(t.Context(), []string{"./..."})
	require.NoError(t, err)
	raced, err := WithoutPrograms(t.Context(), []string{"./..."})
	require.NoError(t, err)
	require.ElementsMatch(t, tested, append(raced, "./"+programs))
	ci, err := os.ReadFile(".ci/run")
	require.NoError(t, err)
	require.Contains(t, string(ci), "make test ARGS=./"+programs+"\n")
}
