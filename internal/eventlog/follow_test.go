package eventlog_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// following is a partition followed as a router does: started again, from where
// it was, whenever it ends.
type following struct {
	cancel context.CancelFunc
	done   chan error // what the last Follow returned

	mu       sync.Mutex
	messages []eventlog.Message
	restarts int
}

func follow(t *testing.T, l *eventlog.Log, p event.Partition, from uint64, options ...eventlog.FollowOption) *following {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &following{cancel: cancel, done: make(chan error, 1)}
	handle := func(m eventlog.Message) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		from = m.Sequence + 1
		f.messages = append(f.messages, m)
		return nil
	}
	go func() {
		for {
			err := l.Follow(ctx, p, from, handle, options...)
			if ctx.Err() != nil {
				f.done <- err
				return
			}
			f.mu.Lock()
			f.restarts++
			f.mu.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(cancel)
	return f
}

// until waits until the sequence was handed over.
func (f *following) until(t *testing.T, sequence uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.messages) > 0 && f.messages[len(f.messages)-1].Sequence >= sequence
	}, waitTime, time.Millisecond)
}

func (f *following) stop() error {
	f.cancel()
	return <-f.done
}

// of returns the sequences that were handed over, but for the sentinel's.
func (f *following) of(tokens ...event.Token) []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []uint64
	for _, m := range f.messages {
		for _, token := range tokens {
			if m.Token == token {
				list = append(list, m.Sequence)
			}
		}
	}
	return list
}

func TestFollowHandsOverEverythingInOrder(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	deletes := testserver.Listen(t, testserver.Connect(t, s.ClientURL()), "$JS.API.CONSUMER.DELETE.>")
	tokens := tokensOf(l, 0, 2)
	var want []uint64
	for i := range 100 {
		want = append(want, publish(t, l, tokens[i%2], strconv.Itoa(i), "body-"+strconv.Itoa(i)))
	}
	f := follow(t, l, 0, 1, eventlog.PullBatch(7))
	for i := range 100 {
		want = append(want, publish(t, l, tokens[i%2], "live-"+strconv.Itoa(i), "x"))
	}
	f.until(t, want[199])
	require.Equal(t, event.SentinelToken, f.messages[0].Token)
	require.Equal(t, "body-0", string(f.messages[1].Body))
	require.WithinDuration(t, time.Now(), f.messages[1].Stored, time.Minute)
	require.Equal(t, want, f.of(tokens...))

	late := follow(t, l, 0, want[150])
	late.until(t, want[199])
	require.Equal(t, want[150:], late.of(tokens...))

	require.NoError(t, f.stop())
	require.NoError(t, late.stop())
	// One that is not deleted would be gone, too, but half a minute later.
	require.Eventually(t, func() bool {
		asked, _, err := deletes.Pending()
		return err == nil && asked >= 2
	}, waitTime, time.Millisecond, "each has its consumer deleted")
	js := s.JetStream()
	require.Eventually(t, func() bool {
		stream, err := js.Stream(t.Context(), event.StreamName(0))
		return err == nil && stream.CachedInfo().State.Consumers == 0
	}, waitTime, 10*time.Millisecond, "consumers are left behind")
}

// Reports: nats-io/nats.go#1370, nats-io/nats-server#2397, kyma-project/kyma#13609,
// centrifugal/centrifugo#972, nats-io/nats.py#234, ClickHouse/ClickHouse#115343.
func TestFollowIsContiguousAcrossARestartOfTheServer(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	token := tokensOf(l, 0, 1)[0]
	f := follow(t, l, 0, 1, eventlog.PullBatch(5))
	var want []uint64
	for i := range 200 {
		if i == 100 {
			s.Restart()
		}
		require.Eventually(t, func() bool {
			ack, err := l.Publish(t.Context(), token, strconv.Itoa(i), []byte("x"))
			if err == nil {
				want = append(want, ack.Sequence)
			}
			return err == nil
		}, waitTime, time.Millisecond)
	}
	f.until(t, want[199])
	require.NoError(t, f.stop())
	require.Equal(t, want, f.of(token))
	require.Positive(t, f.restarts)
}

// TestFollowPassesForgedStatusMessages: an event with an empty body and the
// headers of a message of the server's must not halt its partition.
func TestFollowPassesForgedStatusMessages(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	token := tokensOf(l, 0, 1)[0]
	js := s.JetStream()
	for _, header := range []nats.Header{
		{"Status": {"100"}, "Description": {"Idle Heartbeat"}},
		{"Status": {"409"}, "Description": {"Consumer Deleted"}},
		{"Status": {"503"}},
		{"Status": {"408"}, "Nats-Pending-Messages": {"100"}},
	} {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: event.Subject(0, token), Header: header})
		require.NoError(t, err)
	}
	last := publish(t, l, token, "e", "x")
	f := follow(t, l, 0, 1, patient)
	f.until(t, last)
	require.NoError(t, f.stop())
	require.Len(t, f.of(token), 5)
	require.Zero(t, f.restarts)
}

func TestFollowEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, l := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := l.Follow(ctx, 0, 1, func(eventlog.Message) error {
		cancel()
		return ctx.Err()
	}, patient)
	require.NoError(t, err)
}

func TestFollowReturnsErrors(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	failure := errors.New("handler failed")
	err := l.Follow(t.Context(), 0, 1, func(eventlog.Message) error { return failure }, patient)
	require.ErrorIs(t, err, failure)

	js := s.JetStream()
	seen := make(chan struct{}, 10)
	result := make(chan error, 1)
	go func() {
		result <- l.Follow(t.Context(), 0, 1, func(eventlog.Message) error { seen <- struct{}{}; return nil }, patient)
	}()
	<-seen
	require.NoError(t, js.DeleteStream(t.Context(), event.StreamName(0)))
	require.ErrorIs(t, <-result, eventlog.ErrUnavailable)

	err = l.Follow(t.Context(), 0, 1, func(eventlog.Message) error { return nil })
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
}

// Regression: a router whose consumer was asked for while servers elected a
// leader waited 5 s for the answer, without live delivery.
func TestFollowAsksAgainForItsConsumer(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	l := open(t, electing(t, s, "CONSUMER.CREATE."), config())
	p := l.Partition("o")
	sequence := publish(t, l, "o", "e", "x")
	f := follow(t, l, p, 1, patient)
	f.until(t, sequence)
	require.NoError(t, f.stop())
	require.Zero(t, f.restarts)
}

// Regression: the server of a router's connection may hear of a consumer after
// the router. It was given up, and live delivery waited for the next one.
func TestFollowAsksAgainWhenTheNewsOfItsConsumerIsNotThereYet(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	js := intercepted(t, s, "CONSUMER.MSG.NEXT.", func(m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"503"}}})
	})
	l := open(t, js, config())
	p := l.Partition("o")
	sequence := publish(t, l, "o", "e", "x")
	f := follow(t, l, p, 1, patient)
	f.until(t, sequence)
	require.NoError(t, f.stop())
	require.Zero(t, f.restarts)
}

// Regression: a NATS server that shuts down ends its consumers, and the request
// to delete one was not answered while the others elected a leader: live
// delivery waited for it for a second.
func TestFollowAsksForNothingWhenTheServerHasEndedItsConsumer(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t)
	js := electing(t, s, "nothing: it passes all requests on")
	deletes := testserver.Listen(t, js.Conn(), "ELECTING.CONSUMER.DELETE.>")
	l := open(t, js, config())
	p := l.Partition("o")
	publish(t, l, "o", "e", "x")
	seen, result := make(chan struct{}, 2), make(chan error, 1)
	go func() {
		result <- l.Follow(t.Context(), p, 1, func(eventlog.Message) error { seen <- struct{}{}; return nil }, patient)
	}()
	<-seen
	log, err := s.JetStream().Stream(t.Context(), event.StreamName(p))
	require.NoError(t, err)
	for name := range log.ConsumerNames(t.Context()).Name() {
		require.NoError(t, s.JetStream().DeleteConsumer(t.Context(), event.StreamName(p), name))
	}
	require.ErrorIs(t, <-result, eventlog.ErrUnavailable)
	require.NoError(t, js.Conn().Flush())
	asked, _, err := deletes.Pending()
	require.NoError(t, err)
	require.Zero(t, asked)
}
