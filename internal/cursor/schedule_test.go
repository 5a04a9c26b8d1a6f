package cursor

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// While NATS takes nothing acks go on coming, so what waits to be written must
// grow with the orchestrators and not with the acks (invariant 4).
func TestARecordWaitsOnceHoweverOftenItIsReported(t *testing.T) {
	t.Parallel()
	s := newSchedule(16)
	for range 1000 {
		s.add("o")
		s.hurry("o")
	}
	require.Equal(t, []event.Token{"o"}, s.takeHurried())
	var due []event.Token
	for moment := range moments {
		due = append(due, s.take(moment)...)
	}
	require.Equal(t, []event.Token{"o"}, due)
}

// NATS takes in what comes for one stream at once for less than what comes for
// many, or one by one.
func TestRecordsOfAPartitionAreWrittenTogether(t *testing.T) {
	t.Parallel()
	for partitions, most := range map[int]int{1: moments, 4: moments / 4, 16: moments / 16, moments: 1, 2 * moments: 1} {
		s := newSchedule(partitions)
		at := make(map[event.Partition]map[int]bool)
		for i := range 1000 * partitions {
			token := event.Token(strconv.Itoa(i))
			p := event.PartitionOf(token, partitions)
			if at[p] == nil {
				at[p] = make(map[int]bool)
			}
			at[p][s.momentOf(token)] = true
		}
		for p, moments := range at {
			require.Len(t, moments, most, "partition %d of %d", p, partitions)
		}
	}
}
