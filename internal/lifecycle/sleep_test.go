package lifecycle_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

func TestSleepEndsWithTheTimeOrTheContext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sleep, context, took time.Duration
		goesOn               bool
	}{
		"the time is over":             {sleep: time.Second, context: time.Minute, took: time.Second, goesOn: true},
		"the context ends":             {sleep: time.Minute, context: time.Second, took: time.Second},
		"the context ended before":     {sleep: time.Minute},
		"both are over at once":        {sleep: 0},
		"there is nothing to wait for": {sleep: -1, context: time.Minute, goesOn: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), c.context)
				defer cancel()
				require.Equal(t, c.goesOn, lifecycle.Sleep(ctx, c.sleep))
				require.Equal(t, c.took, time.Since(start))
			})
		})
	}
}
