package headroom

import (
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/stretchr/testify/require"
)

// A container whose limit is changed while it runs, as a vertical autoscaler
// may do, is not restarted.
func TestGoIsToldNineTenthsOfTheContainersMemoryLimitAndOfEachChange(t *testing.T) {
	t.Parallel()
	type read struct {
		limit uint64
		err   error
	}
	reads := []read{
		{err: memlimit.ErrNoLimit}, {limit: 1000 << 20}, {limit: 1000 << 20}, {err: memlimit.ErrCgroupsNotSupported}, {limit: 2_000_000_000},
		{limit: 1 << 63},
	}
	var told []int64
	l := limiter{
		read: func() (uint64, error) {
			next := reads[0]
			reads = reads[1:]
			return next.limit, next.err
		},
		set: func(limit int64) int64 {
			told = append(told, limit)
			return 0
		},
	}
	for len(reads) > 0 {
		l.follow()
	}
	require.Len(t, told, 2)
	require.InDelta(t, 900<<20, told[0], 100)
	require.EqualValues(t, 1_800_000_000, told[1])
}
