package cursor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
)

// answered is a partition that answers each read after a while, and counts them.
type answered struct {
	after    time.Duration
	first    error // what the first read fails with
	requests atomic.Int64
	underWay atomic.Int64
}

func (a *answered) fetch(_ context.Context, subjects []string) (map[string]eventlog.Stored, error) {
	n := a.requests.Add(1)
	if a.underWay.Add(1) > 1 {
		return nil, errors.New("another read is under way")
	}
	defer a.underWay.Add(-1)
	<-time.After(a.after)
	found := make(map[string]eventlog.Stored, len(subjects))
	for _, s := range subjects {
		found[s] = eventlog.Stored{Sequence: uint64(n), Data: []byte(s)}
	}
	if n == 1 && a.first != nil {
		return nil, a.first
	}
	return found, nil
}

func gathererOf(a *answered) *gatherer {
	return &gatherer{fetch: a.fetch, pace: eventlog.Pace{First: gatherDelay}}
}

// The requests of a rush grow with the time that it takes, not with the starts:
// while one is under way, and until the next moment of a rush, the others gather.
func TestARushIsReadInFewRequestsHoweverManyStart(t *testing.T) {
	t.Parallel()
	for _, starts := range []int{50, 200, 800} {
		t.Run(fmt.Sprint(starts), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const rush = 100 * time.Millisecond
				a := &answered{after: 4 * time.Millisecond}
				g := gathererOf(a)
				var all sync.WaitGroup
				for i := range starts {
					all.Go(func() {
						<-time.After(rush * time.Duration(i) / time.Duration(starts))
						subject := fmt.Sprint(i)
						stored, found, err := g.read(t.Context(), subject)
						if err != nil || !found || string(stored.Data) != subject {
							t.Error(i, found, err)
						}
					})
				}
				all.Wait()
				t.Logf("%d requests for %d starts", a.requests.Load(), starts)
				require.LessOrEqual(t, a.requests.Load(), int64(12))
			})
		})
	}
}

// Outside of a rush nobody waits for a moment that all share.
func TestAReadAloneWaitsLittle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := gathererOf(&answered{})
		for range 5 {
			<-time.After(time.Second)
			began := time.Now()
			_, _, err := g.read(t.Context(), "one")
			require.NoError(t, err)
			require.Equal(t, gatherDelay, time.Since(began))
		}
	})
}

// What was asked before a read began is not its answer: the record may have been
// written in between.
func TestAReadIsNotAnsweredByARequestFromBeforeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := gathererOf(&answered{after: 10 * time.Millisecond})
		var first sync.WaitGroup
		first.Go(func() { _, _, _ = g.read(t.Context(), "one") })
		<-time.After(gatherDelay + time.Millisecond)
		stored, _, err := g.read(t.Context(), "one")
		require.NoError(t, err)
		require.Equal(t, uint64(2), stored.Sequence)
		first.Wait()
	})
}

// An error is told to those who asked, and not to those who gather meanwhile.
func TestARequestThatFailsFailsOnlyWhoAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("failed")
		g := gathererOf(&answered{after: 10 * time.Millisecond, first: failed})
		var first sync.WaitGroup
		first.Go(func() {
			_, _, err := g.read(t.Context(), "one")
			if !errors.Is(err, failed) {
				t.Error(err)
			}
		})
		<-time.After(gatherDelay + time.Millisecond)
		_, _, err := g.read(t.Context(), "two")
		require.NoError(t, err)
		first.Wait()
	})
}

// Whoever gives up keeps nobody else waiting: not those of the same batch, and not
// whoever comes when all of a batch have given up.
func TestAReadIsSentThoughOthersGiveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := gathererOf(&answered{after: 20 * time.Millisecond})
		var all sync.WaitGroup
		read := func(ctx context.Context, want error) {
			all.Go(func() {
				if _, _, err := g.read(ctx, "one"); !errors.Is(err, want) {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		impatient, cancel := context.WithCancel(t.Context())
		read(t.Context(), nil)
		<-time.After(gatherDelay + time.Millisecond)
		read(impatient, context.Canceled)
		cancel()
		all.Wait()
		read(t.Context(), nil)
		all.Wait()
	})
}
