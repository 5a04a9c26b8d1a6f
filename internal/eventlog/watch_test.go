package eventlog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A bucket that was lost and made anew comes to have as many revisions as the one
// of before.
func TestAfterABucketWasAwayTheEpochsAreReadInFull(t *testing.T) {
	t.Parallel()
	var failure error
	reads, now := 0, time.Unix(1000, 0)
	l := look{
		newest: func(context.Context) (uint64, error) { return 17, failure },
		read:   func(context.Context) error { reads++; return failure },
	}
	once := func() int {
		before := reads
		now = now.Add(epochLook)
		l.once(t.Context(), now)
		return reads - before
	}
	require.Equal(t, []int{1, 1, 0, 0}, []int{once(), once(), once(), once()}, "a change, and the replica that may lag behind it")
	failure = errors.New("the bucket is missing")
	require.Equal(t, []int{0, 0}, []int{once(), once()})
	failure = nil
	require.Equal(t, []int{1, 1, 0}, []int{once(), once(), once()})
}
