package edge

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// The questions of a rush grow with the time that it takes, not with the daemons,
// and keep the pool's places from nobody.
func TestARushAsksFewQuestionsHoweverManyStart(t *testing.T) {
	t.Parallel()
	for _, daemons := range []int{50, 200, 800} {
		t.Run(fmt.Sprint(daemons), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const rush = 100 * time.Millisecond
				questions := 0
				jobs := newPool(t.Context(), nil, 1)
				g := &gatherer{pool: jobs, pace: eventlog.Pace{First: gatherDelay, Second: true}}
				g.ask = func(_ context.Context, _ event.Partition, tokens []event.Token) ([]eventlog.Last, error) {
					questions++
					<-time.After(4 * time.Millisecond)
					return make([]eventlog.Last, len(tokens)), nil
				}
				var answers sync.WaitGroup
				var between atomic.Bool
				for i := range daemons {
					<-time.After(rush / time.Duration(daemons))
					answers.Add(1)
					g.add(event.Token(fmt.Sprint(i)), func(eventlog.Last, error) { answers.Done() })
					if i == daemons/2 {
						jobs.submit(t, func(context.Context) { between.Store(true) })
					}
				}
				require.True(t, between.Load(), "another job of the pool was done during the rush")
				answers.Wait()
				jobs.close()
				t.Logf("%d questions for %d daemons", questions, daemons)
				require.LessOrEqual(t, questions, 12)
			})
		})
	}
}
