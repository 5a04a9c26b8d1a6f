package traffic

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestMain(m *testing.M) { testserver.Main(m) }

// feeding is a feed with a log of one partition, and a Redis that nobody listens to.
type feeding struct {
	*Feed
	nats   *testserver.NATSServer
	redis  *redis.Client
	ledger *ledger.Ledger
}

func newFeeding(t *testing.T) feeding {
	t.Helper()
	f := feeding{nats: testserver.NATS(t), ledger: ledger.New()}
	f.redis = testserver.Redis(t).Client()
	log, err := OpenLog(f.nats.ClientURL())
	require.NoError(t, err)
	t.Cleanup(log.Close)
	_, err = log.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: event.StreamName(0), Subjects: []string{event.Subject(0, "*")}})
	require.NoError(t, err)
	f.Feed, err = NewFeed(f.ledger, Entrance{Redis: f.redis, JetStream: log.JetStream(), Partitions: 1})
	require.NoError(t, err)
	f.Timeout, f.Retry = testserver.Patience, 10*time.Millisecond
	t.Cleanup(f.Stop)
	return f
}

func numbered(n int) event.Event {
	return event.Event{ID: fmt.Sprintf("e-%d", n), Type: "a.b", OrchestratorID: "A", Payload: []byte(`{}`)}
}

func TestWhatNoBridgeHasHeardIsNotTaken(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	require.ErrorIs(t, f.Publish(t.Context(), OnRedis, numbered(1), numbered(2)), ErrUnheard)
	for _, p := range f.Since(time.Time{}) {
		require.Zero(t, p.Taken)
	}
	bridge := f.redis.Subscribe(t.Context(), "daemon:events")
	t.Cleanup(func() { _ = bridge.Close() })
	_, err := bridge.Receive(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.Publish(t.Context(), OnRedis, numbered(2)), "the same event again")
	all := f.Since(time.Time{})
	require.Len(t, all, 2)
	require.Zero(t, all[0].Taken)
	require.NotZero(t, all[1].Taken)
	require.EqualValues(t, 1, all[1].Bridges)
}

func TestAnEventIsPublishedUntilTheLogHasIt(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	f.Timeout = 200 * time.Millisecond // what is too short is repeated
	f.nats.Shutdown()
	published := make(chan error, 1)
	go func() { published <- f.Publish(context.Background(), IntoLog, numbered(1)) }()
	require.Eventually(t, func() bool { return f.Retries() > 0 }, testserver.Patience, time.Millisecond)
	require.Zero(t, f.Since(time.Time{})[0].Taken)
	f.nats.Start()
	require.NoError(t, <-published)
	require.NotZero(t, f.Since(time.Time{})[0].Taken)
	require.Empty(t, f.Refused())
}

func TestWhatTheLogRefusesIsNotRepeated(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	require.Error(t, f.Publish(t.Context(), IntoLog, event.Event{ID: "e", OrchestratorID: "A"}))
	require.Len(t, f.Refused(), 1)
	require.Zero(t, f.Retries())
}

func TestAuthorsFinishWhatTheyHaveBegun(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	var begun atomic.Int64
	author := func(first int) Author {
		n := first
		return Author{Way: IntoLog, Every: time.Millisecond, Next: func(time.Time) event.Event {
			n++
			begun.Add(1)
			return numbered(n)
		}}
	}
	f.Start(author(0), author(10_000))
	require.Eventually(t, func() bool { return begun.Load() >= 20 }, testserver.Patience, time.Millisecond)
	require.NoError(t, f.Finish(t.Context()))
	all := f.Since(time.Time{})
	for _, p := range all {
		require.NotZero(t, p.Taken)
	}

	f.nats.Shutdown()
	f.Start(author(20_000))
	require.Eventually(t, func() bool { return len(f.Since(time.Time{})) > len(all) }, testserver.Patience, time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, f.Finish(ctx), "have not ended")
	require.Zero(t, f.Since(time.Time{})[len(all)].Taken, "given up")
}

func TestWhoCatchesUpPublishesAllThatWasDue(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	var due []time.Time
	held := make(chan struct{})
	f.Start(Author{Way: OnRedis, Every: 10 * time.Millisecond, CatchUp: true, Next: func(when time.Time) event.Event {
		if due = append(due, when); len(due) == 1 {
			<-held
		}
		return numbered(len(due))
	}})
	time.AfterFunc(100*time.Millisecond, func() { close(held) })
	require.Eventually(t, func() bool { return len(f.Since(time.Time{})) > 10 }, testserver.Patience, time.Millisecond)
	f.Stop()
	for i := 1; i < len(due); i++ {
		require.Equal(t, 10*time.Millisecond, due[i].Sub(due[i-1]))
	}
}
