package gatewayctl

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A toolbox goes on while NATS is away, and ends when it is told to.
func TestIdleNeedsNothingAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, []string{"idle"}, func(string) (string, bool) { return "", false }, strings.NewReader(""), io.Discard, io.Discard)
	}()
	select {
	case code := <-ended:
		require.Fail(t, "it ended by itself", "with %d", code)
	default:
	}
	cancel()
	require.Equal(t, exitOK, <-ended)
}
