package lifecycle_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStackStopsLastFirst(t *testing.T) {
	t.Parallel()
	var stack lifecycle.Stack
	var order []string
	errSecond, errFirst := errors.New("second broke"), errors.New("first broke")
	stack.Push("first", func(context.Context) error { order = append(order, "first"); return errFirst })
	stack.Push("second", func(context.Context) error { order = append(order, "second"); return errSecond })
	stack.Push("third", func(context.Context) error { order = append(order, "third"); panic("third broke") })

	err := stack.Stop(t.Context())
	require.Equal(t, []string{"third", "second", "first"}, order, "a failing step keeps no other from running")
	require.ErrorIs(t, err, errFirst)
	require.ErrorIs(t, err, errSecond)
	require.EqualError(t, err, "stop third: panic: third broke\nstop second: second broke\nstop first: first broke")

	require.Equal(t, err, stack.Stop(t.Context()), "a second call runs nothing and says the same")
	require.Len(t, order, 3)
	require.Panics(t, func() { stack.Push("late", func(context.Context) error { return nil }) })
}

func TestStackStopOfNothing(t *testing.T) {
	t.Parallel()
	var stack lifecycle.Stack
	require.NoError(t, stack.Stop(t.Context()))
	require.NoError(t, stack.Stop(t.Context()))
}

func TestStackStopConcurrently(t *testing.T) {
	t.Parallel()
	var stack lifecycle.Stack
	started, release := make(chan struct{}), make(chan struct{})
	runs := 0
	stack.Push("slow", func(context.Context) error {
		runs++
		close(started)
		<-release
		return nil
	})
	var stops sync.WaitGroup
	stops.Go(func() { _ = stack.Stop(t.Context()) })
	<-started

	impatient, cancel := context.WithCancelCause(t.Context())
	errHurry := errors.New("no time")
	cancel(errHurry)
	require.ErrorIs(t, stack.Stop(impatient), errHurry, "a second call waits no longer than its context")

	close(release)
	require.NoError(t, stack.Stop(t.Context()))
	stops.Wait()
	require.Equal(t, 1, runs)
}

func TestStackPassesTheContext(t *testing.T) {
	t.Parallel()
	var stack lifecycle.Stack
	stack.Push("patient", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, stack.Stop(ctx), context.Canceled)
}

// untilStopped is a part that works until it is told to stop.
func untilStopped(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestGroupStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	group := lifecycle.NewGroup(ctx)
	group.Go("canceled", untilStopped)
	group.Go("silent", func(ctx context.Context) error { <-ctx.Done(); return nil })
	cancel()
	require.NoError(t, group.Wait())
	require.Error(t, group.Context().Err())
}

func TestGroupFirstFailureStopsAll(t *testing.T) {
	t.Parallel()
	errBroken := errors.New("broken")
	for name, tt := range map[string]struct {
		part func(context.Context) error
		want string
	}{
		"failure":      {func(context.Context) error { return errBroken }, "bad: broken"},
		"ended itself": {func(context.Context) error { return nil }, "bad: ended unasked"},
		"own timeout":  {func(context.Context) error { return context.Canceled }, "bad: context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			group := lifecycle.NewGroup(t.Context())
			group.Go("good", untilStopped)
			group.Go("also fails, later", func(ctx context.Context) error {
				<-ctx.Done()
				return errors.New("a consequence")
			})
			group.Go("bad", tt.part)
			require.EqualError(t, group.Wait(), tt.want)
			require.EqualError(t, context.Cause(group.Context()), tt.want)
		})
	}
}

func TestGroupReportsAFailureWhileStopping(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	group := lifecycle.NewGroup(ctx)
	errFlush := errors.New("flush failed")
	group.Go("cursors", func(ctx context.Context) error { <-ctx.Done(); return errFlush })
	cancel()
	require.ErrorIs(t, group.Wait(), errFlush)
}

// A group inside a group does not take the outer one's failure for its own.
func TestGroupNested(t *testing.T) {
	t.Parallel()
	outer := lifecycle.NewGroup(t.Context())
	errOuter := errors.New("outer broke")
	innerErr := make(chan error, 1)
	outer.Go("inner", func(ctx context.Context) error {
		inner := lifecycle.NewGroup(ctx)
		inner.Go("part", untilStopped)
		innerErr <- inner.Wait()
		return nil
	})
	outer.Go("broken", func(context.Context) error { return errOuter })
	require.ErrorIs(t, outer.Wait(), errOuter)
	require.NoError(t, <-innerErr)
}
