package socket

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPriorityOvertakesOnlyWhatWaitsAndKeepsTheOrderWithin(t *testing.T) {
	t.Parallel()
	var q queue
	for i := range 200 {
		f := frame(strconv.Itoa(i), rand.IntN(4))
		f.Sequence = uint64(i)
		q.addEvent(f)
	}
	_, events := q.take()
	require.Len(t, events, 200)
	for i := 1; i < len(events); i++ {
		before, after := events[i-1], events[i]
		require.GreaterOrEqual(t, before.Priority, after.Priority)
		if before.Priority == after.Priority {
			require.Less(t, before.Sequence, after.Sequence)
		}
	}
}

func TestTakeBoundsABatchButAlwaysTakesOne(t *testing.T) {
	t.Parallel()
	var q queue
	for range 3 {
		q.addEvent(Frame{Size: batchBytes})
	}
	for range 3 {
		_, events := q.take()
		require.Len(t, events, 1)
	}
	require.True(t, q.empty())
}

// A frame that the writer has taken can no longer be overtaken, also when the
// queue grows again in the same memory.
func TestTakenFramesAreNotTouchedByLaterOnes(t *testing.T) {
	t.Parallel()
	var q queue
	for i := range 4 {
		q.addEvent(Frame{Size: batchBytes / 2, Sequence: uint64(i)})
	}
	_, taken := q.take()
	for i := range 8 {
		q.addEvent(Frame{Priority: 9, Sequence: uint64(100 + i)})
	}
	require.Equal(t, []uint64{0, 1}, []uint64{taken[0].Sequence, taken[1].Sequence})
}
