package bridge

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// slowLog stores a message in each interval, one after the other, those too whose
// publishers do not wait any more.
type slowLog struct {
	*faultyStore
	interval time.Duration
	free     time.Time // when it comes to the next one
	known    map[string]bool
	tries    int
}

func (l *slowLog) PublishAsync(_ context.Context, token event.Token, id string, _ []byte, done func(eventlog.Ack, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tries++
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(l.interval)
	if !l.known[id] {
		l.known[id] = true
		l.stored[token] = append(l.stored[token], id)
	}
	wait, err := l.free.Sub(now), error(nil)
	if patience := 2 * time.Second; wait > patience {
		wait, err = patience, fmt.Errorf("%w: no answer", eventlog.ErrUnavailable)
	}
	time.AfterFunc(wait, func() { done(eventlog.Ack{}, err) })
}

// Regression: a log that could answer for 200 publishes in their time was sent
// 1,024 at once, again and again.
func TestASlowLogIsNotSentMoreThanItAnswersFor(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 16} {
		t.Run(fmt.Sprintf("%d partitions on its disks", partitions), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const orchestrators, each = 1000, 5
				log := &slowLog{faultyStore: newFaultyStore(), interval: 10 * time.Millisecond, known: map[string]bool{}}
				p := newLoadedPump(partitions)
				for n := range each {
					for o := range orchestrators {
						p.inbox.push(heard{channel: "daemon:events", body: []byte(eventJSON(fmt.Sprintf("vp%d", o), n))})
					}
				}
				p.inbox.close()
				require.Zero(t, p.run(t.Context(), log))
				for o := range orchestrators {
					name := fmt.Sprintf("vp%d", o)
					require.Equal(t, eventIDs(name, 0, each), log.stored[event.Token(name)])
				}
				require.Less(t, log.tries, 2*orchestrators*each)
			})
		})
	}
}

// newLoadedPump returns a pump with room for what a test of load sends it.
func newLoadedPump(partitions int) *pump {
	p := newPump(newInbox(100_000, maxBufferBytes), nil, nil, func() bool { return true },
		event.DefaultMaxBytes, newMetrics(prometheus.NewPedanticRegistry()), discard)
	p.partitions = partitions
	return p
}

func TestTheWindowGrowsBackWithTheAnswers(t *testing.T) {
	t.Parallel()
	w := publishWindow{size: window}
	now := time.Now()
	for range 20 {
		now = now.Add(windowRest + 1)
		w.answered(now, eventlog.ErrUnavailable, window, leastWindow)
	}
	require.EqualValues(t, leastWindow, w.size)
	w.answered(now.Add(1), eventlog.ErrLogFull, window, leastWindow)
	require.EqualValues(t, leastWindow, w.size, "an answer that refuses is an answer")
	for range window * window {
		w.answered(now, nil, window, leastWindow)
	}
	require.EqualValues(t, window, w.size)
}

// headlessLog answers at once, but for a partition that has no leader.
type headlessLog struct {
	*faultyStore
	headless func(event.Token) bool
	taken    int
}

func (l *headlessLog) PublishAsync(_ context.Context, token event.Token, _ string, _ []byte, done func(eventlog.Ack, error)) {
	if l.headless(token) {
		time.AfterFunc(2*time.Second, func() { done(eventlog.Ack{}, fmt.Errorf("%w: no answer", eventlog.ErrUnavailable)) })
		return
	}
	time.AfterFunc(5*time.Millisecond, func() {
		l.mu.Lock()
		l.taken++
		l.mu.Unlock()
		done(eventlog.Ack{}, nil)
	})
}

func (l *headlessLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taken
}

// Regression: what did not come into a partition without a leader took all places
// of a window that halved for it, and the buffer ran over with what the others
// would have taken.
func TestAPartitionWithoutLeaderSlowsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const partitions, seconds, perSecond, orchestrators = 16, 40, 400, 4000
		begun := time.Now()
		away := func(token event.Token) bool { return event.PartitionOf(token, partitions) == 0 }
		log := &headlessLog{faultyStore: newFaultyStore(), headless: func(token event.Token) bool {
			return away(token) && time.Since(begun) < seconds*time.Second
		}}
		p, left := newLoadedPump(partitions), make(chan int)
		go func() { left <- p.run(t.Context(), log) }()
		sent := 0                             // to the others
		second := time.NewTicker(time.Second) // of the bubble
		defer second.Stop()
		for i := range seconds * perSecond {
			name := fmt.Sprintf("vp%d", i%orchestrators)
			if !away(event.Token(name)) {
				sent++
			}
			p.inbox.push(heard{channel: "daemon:events", body: []byte(eventJSON(name, i/orchestrators))})
			if i%perSecond != perSecond-1 {
				continue
			}
			<-second.C
			require.Less(t, sent-log.count(), perSecond, "after %d s", i/perSecond)
		}
		p.inbox.close()
		require.Zero(t, <-left)
	})
}
