package latest_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/latest"
)

func values(q *latest.Queue[string, int]) (out []int) {
	for _, e := range q.Oldest(100) {
		out = append(out, e.Value)
	}
	return out
}

func TestTheNewestValueOfAKeyWaitsWhereItWasPut(t *testing.T) {
	t.Parallel()
	q := latest.New[string, int](1 << 20)
	require.Zero(t, q.Put("a", 1, 10))
	require.Zero(t, q.Put("b", 2, 10))
	require.Zero(t, q.Put("a", 3, 10))
	require.Equal(t, []int{2, 3}, values(q))
	require.Equal(t, 2, q.Len())
	require.Len(t, q.Oldest(1), 1)
}

func TestOverTheBoundTheOldestIsDropped(t *testing.T) {
	t.Parallel()
	q := latest.New[string, int](10_000)
	for i, key := range []string{"a", "b", "c"} {
		require.Zero(t, q.Put(key, i, 3_000))
	}
	require.Equal(t, 1, q.Put("d", 3, 3_000))
	require.Equal(t, []int{1, 2, 3}, values(q))
	require.Zero(t, q.Put("d", 4, 3_000), "what is replaced makes room")
	require.Equal(t, 3, q.Put("e", 5, 20_000))
	require.Equal(t, []int{5}, values(q), "the newest stays, however large")
}

func TestWhatWasReplacedMeanwhileIsNotRemoved(t *testing.T) {
	t.Parallel()
	q := latest.New[string, int](1 << 20)
	q.Put("a", 1, 0)
	q.Put("b", 2, 0)
	taken := q.Oldest(2)
	q.Put("a", 3, 0)
	for _, e := range taken {
		q.Remove(e)
		q.Remove(e) // harmless
	}
	require.Equal(t, []int{3}, values(q))
}

func TestWhatIsNotWantedAnyMoreIsRemoved(t *testing.T) {
	t.Parallel()
	q := latest.New[string, int](1 << 20)
	for i, key := range []string{"a", "b", "c", "d"} {
		q.Put(key, i, 0)
	}
	require.Equal(t, 2, q.RemoveIf(func(v int) bool { return v%2 == 0 }))
	require.Equal(t, []int{1, 3}, values(q))
	require.Equal(t, 2, q.RemoveIf(func(int) bool { return true }))
	require.Zero(t, q.Len())
}

func TestAnEntryMayGoBehindTheOthers(t *testing.T) {
	t.Parallel()
	q := latest.New[string, int](1 << 20)
	q.Put("a", 1, 0)
	q.Put("b", 2, 0)
	first := q.Oldest(1)[0]
	q.Requeue(first)
	require.Equal(t, []int{2, 1}, values(q))
	q.Put("a", 3, 0)
	q.Requeue(q.Oldest(1)[0])
	q.Requeue(first) // replaced, so nothing happens
	require.Equal(t, []int{3, 2}, values(q))
}

func TestItMayBeUsedConcurrently(t *testing.T) {
	t.Parallel()
	q := latest.New[int, int](50_000)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for i := range 1_000 {
				q.Put(i%300, i, 100)
				for _, e := range q.Oldest(3) {
					q.Remove(e)
				}
			}
		})
	}
	work.Wait()
	q.RemoveIf(func(int) bool { return true })
	require.Zero(t, q.Len())
}
