package lab

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What is missing when the time is over is a finding. A look at the log that the
// end cuts off must not make an error of it.
func TestARecordThatTheEndCutsOffIsNoFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		slowly := func(ctx context.Context) error {
			select {
			case <-time.After(7 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		require.NoError(t, recordUntil(ctx, slowly, func() bool { return false }))
	})
}

func TestALogThatCannotBeReadIsAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		away := errors.New("away")
		require.ErrorIs(t, recordUntil(ctx, func(context.Context) error { return away }, func() bool { return true }), away)
	})
}
