package bridge

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

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
	synctest.Test(t, func(t *testing.T) {
		const orchestrators, each = 1000, 5
		var messages []heard
		for n := range each {
			for o := range orchestrators {
				messages = append(messages, heard{channel: "daemon:events", body: []byte(eventJSON(fmt.Sprintf("vp%d", o), n))})
			}
		}
		log := &slowLog{faultyStore: newFaultyStore(), interval: 10 * time.Millisecond, known: map[string]bool{}}
		pumpAll(t, log, nil, messages...)
		for o := range orchestrators {
			name := fmt.Sprintf("vp%d", o)
			require.Equal(t, eventIDs(name, 0, each), log.stored[event.Token(name)])
		}
		require.Less(t, log.tries, 2*orchestrators*each)
	})
}

func TestTheWindowGrowsBackWithTheAnswers(t *testing.T) {
	t.Parallel()
	w := publishWindow{size: window}
	now := time.Now()
	for range 20 {
		now = now.Add(windowRest + 1)
		w.answered(now, eventlog.ErrUnavailable)
	}
	require.EqualValues(t, leastWindow, w.size)
	w.answered(now.Add(1), eventlog.ErrLogFull)
	require.EqualValues(t, leastWindow, w.size, "an answer that refuses is an answer")
	for range window * window {
		w.answered(now, nil)
	}
	require.EqualValues(t, window, w.size)
}
