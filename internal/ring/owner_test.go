package ring

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = "router-" + strconv.Itoa(i) + "-d8k2j3h4g5f6"
	}
	return list
}

func TestOwnerIsBalanced(t *testing.T) {
	t.Parallel()
	const keys = 10_000
	for _, n := range []int{2, 5, 20} {
		load := make(map[string]int)
		for k := range keys {
			load[Owner(strconv.Itoa(k), names(n))]++
		}
		for _, name := range names(n) {
			require.InEpsilon(t, keys/n, load[name], 0.2, "%s of %d", name, n)
		}
	}
}

func TestOwnerMovesOnlyWhatItMust(t *testing.T) {
	t.Parallel()
	members := names(6)
	fewer, gone := members[:5], members[5]
	moved := 0
	for k := range 2000 {
		key := strconv.Itoa(k)
		if before := Owner(key, members); before == gone {
			moved++
		} else {
			require.Equal(t, before, Owner(key, fewer))
		}
	}
	require.Positive(t, moved)
}

func TestOwnerDoesNotDependOnOrder(t *testing.T) {
	t.Parallel()
	members := names(7)
	for k := range 200 {
		want := Owner(strconv.Itoa(k), members)
		rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		require.Equal(t, want, Owner(strconv.Itoa(k), members))
	}
	require.Empty(t, Owner("0", nil))
}
