package eventlog_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// proxied opens a log that reaches the server through a proxy.
func proxied(t *testing.T, s *testserver.NATSServer) (*testserver.Proxy, *eventlog.Log) {
	t.Helper()
	network := testserver.NATSProxy(t, s)
	nc, err := nats.Connect(network.URL(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(10*time.Millisecond), nats.ReconnectBufSize(-1))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return network, open(t, js, config())
}

// awaitEvents waits until the orchestrator has so many events.
func awaitEvents(t *testing.T, l *eventlog.Log, token event.Token, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		page, err := l.Read(t.Context(), l.Partition(token), token, 1, 100, 1<<20)
		return err == nil && len(page.Messages) == n
	}, waitTime, 10*time.Millisecond)
}

func TestPublishWhoseAnswerIsLostIsRepeatedAndStoredOnce(t *testing.T) {
	t.Parallel()
	s, direct := setup(t)
	network, l := proxied(t, s)
	network.HoldAnswers()
	failed := make(chan error, 1)
	go func() {
		_, err := l.Publish(t.Context(), "o", "e", []byte("x"))
		failed <- err
	}()
	awaitEvents(t, direct, "o", 1)
	network.Cut()
	require.ErrorIs(t, <-failed, eventlog.ErrUnavailable)
	network.Heal()
	ack, err := stored(t, l, "o", "e", []byte("x"))
	require.NoError(t, err)
	require.True(t, ack.Duplicate)
	awaitEvents(t, direct, "o", 1)
}

// What is under way when the connection is lost does not wait for its time, and
// each is told so once.
func TestPublishesUnderWayEndWithTheConnection(t *testing.T) {
	t.Parallel()
	s, direct := setup(t)
	network, l := proxied(t, s)
	network.HoldAnswers()
	const events = 100
	failed := make(chan error, 2*events)
	for i := range events {
		l.PublishAsync(t.Context(), "o", strconv.Itoa(i), []byte("x"), func(_ eventlog.Ack, err error) { failed <- err })
	}
	awaitEvents(t, direct, "o", events)
	network.Cut()
	for range events {
		require.ErrorIs(t, <-failed, eventlog.ErrUnavailable)
	}
	network.Heal()
	for i := range events {
		ack, err := stored(t, l, "o", strconv.Itoa(i), []byte("x"))
		require.NoError(t, err)
		require.True(t, ack.Duplicate)
	}
	require.Empty(t, failed, "an answer that came late is nobody's")
}

func TestPublishEndsWithTheCallersContext(t *testing.T) {
	t.Parallel()
	s, direct := setup(t)
	network, l := proxied(t, s)
	network.HoldAnswers()
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	l.PublishAsync(ctx, "o", "e", []byte("x"), func(_ eventlog.Ack, err error) { failed <- err })
	awaitEvents(t, direct, "o", 1)
	cancel()
	// On a slow machine its time may have been over before.
	if err := <-failed; !errors.Is(err, eventlog.ErrUnavailable) {
		require.ErrorIs(t, err, context.Canceled)
	}
	_, err := l.Publish(ctx, "o", "f", []byte("x"))
	require.ErrorIs(t, err, context.Canceled)
	network.Heal()
	_, err = stored(t, l, "o", "g", []byte("x"))
	require.NoError(t, err)
	require.Len(t, read(t, direct, "o", 1, 100, 1<<20).Messages, 2, "what ends before it begins is not published")
}

// A partition without a leader is not there for a moment, and its events are
// published again meanwhile.
func TestPublishIsRepeatedWhileNobodyIsThereToStoreIt(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	js := s.JetStream()
	name := event.StreamName(l.Partition("o"))
	stream, err := js.Stream(t.Context(), name)
	require.NoError(t, err)
	cfg := stream.CachedInfo().Config
	// A slow machine may take longer to make a stream than a publish waits.
	require.Eventually(t, func() bool {
		require.NoError(t, js.DeleteStream(t.Context(), name))
		outcome := make(chan error, 1)
		l.PublishAsync(t.Context(), "o", "e", []byte("x"), func(_ eventlog.Ack, err error) { outcome <- err })
		time.AfterFunc(time.Millisecond, func() { _, _ = js.CreateStream(t.Context(), cfg) })
		err := <-outcome
		require.Eventually(t, func() bool { _, err := js.Stream(t.Context(), name); return err == nil }, waitTime, time.Millisecond)
		return err == nil
	}, waitTime, time.Millisecond)

	require.NoError(t, js.DeleteStream(t.Context(), name))
	_, err = l.Publish(t.Context(), "o", "f", []byte("x"))
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
}

// Regression: a leader that leaves stores what it has taken and does not say so,
// and the events behind it waited for the whole of the store timeout.
func TestPublishIsRepeatedWhenNobodySaysThatItIsStored(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	js := s.JetStream()
	silent := func(yes bool) {
		stream, err := js.Stream(t.Context(), event.StreamName(l.Partition("o")))
		require.NoError(t, err)
		cfg := stream.CachedInfo().Config
		cfg.NoAck = yes
		_, err = js.UpdateStream(t.Context(), cfg)
		require.NoError(t, err)
	}
	n := 0
	require.Eventually(t, func() bool {
		silent(true)
		acks, id := make(chan eventlog.Ack, 1), strconv.Itoa(n)
		go func() {
			ack, _ := l.Publish(t.Context(), "o", id, []byte("x"))
			acks <- ack
		}()
		n++
		awaitEvents(t, l, "o", n)
		silent(false)
		return (<-acks).Duplicate
	}, waitTime, time.Millisecond)
}

// A disk that is slow delays acknowledgements: a publish waits within bounds,
// and what comes of its repetitions is the first one's.
func TestPublishThatIsAnsweredTooLateIsStoredOnce(t *testing.T) {
	t.Parallel()
	s, direct := setup(t)
	network, l := proxied(t, s)
	network.HoldAnswers()
	_, err := l.Publish(t.Context(), "o", "e", []byte("x"))
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
	network.Heal()
	ack, err := stored(t, l, "o", "e", []byte("x"))
	require.NoError(t, err)
	require.True(t, ack.Duplicate)
	awaitEvents(t, direct, "o", 1)
}

// It refuses with an error of its own, drops nothing that is there, and takes
// events again as soon as there is room.
func TestFullPartitionTakesEventsAgainWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	s, l := setup(t, func(c *eventlog.Config) {
		c.LogMaxBytes, c.MaxEventBytes, c.EventsPerOrchestrator = 256<<10, 64<<10, 5
	})
	tokens := tokensOf(l, 0, 20)
	waiting := publish(t, l, tokens[0], "waits", "x")
	body := strings.Repeat("x", 10<<10)
	var err error
	full := 1
	for n := 0; err == nil; n++ {
		full = 1 + n/5
		_, err = untilFull(t, l, tokens[full], strconv.Itoa(n), []byte(body))
	}
	require.ErrorIs(t, err, eventlog.ErrLogFull)
	first := read(t, l, tokens[1], 1, 100, 1<<20)
	require.Len(t, first.Messages, 5)

	_, err = untilFull(t, l, tokens[1], "one more than its orchestrator may have", []byte(body))
	require.ErrorIs(t, err, eventlog.ErrLogFull, "NATS does not look at what its own oldest would make room for")
	require.Equal(t, []uint64{waiting}, sequences(read(t, l, tokens[0], 1, 100, 1<<20)), "nobody else's event is dropped")

	stream, err := s.JetStream().Stream(t.Context(), event.StreamName(0))
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject(event.Subject(0, tokens[2]))))
	publish(t, l, tokens[full], "there is room", body)
}

func TestDuplicatesAreKnownAcrossARestart(t *testing.T) {
	t.Parallel()
	s, l := setup(t, func(c *eventlog.Config) { c.DuplicateWindow = waitTime })
	first := publish(t, l, "o", "e", "x")
	again, err := stored(t, l, "o", "e", []byte("x"))
	require.NoError(t, err)
	require.Equal(t, eventlog.Ack{Partition: l.Partition("o"), Sequence: first, Duplicate: true}, again)
	s.Restart()
	again, err = stored(t, l, "o", "e", []byte("x"))
	require.NoError(t, err)
	require.Equal(t, first, again.Sequence)
}

// What docs/operations.md says of DUPLICATE_WINDOW.
func TestDuplicatesAreKnownForTheWindowOnly(t *testing.T) {
	t.Parallel()
	_, l := setup(t, func(c *eventlog.Config) { c.DuplicateWindow = 100 * time.Millisecond })
	first := publish(t, l, "o", "e", "x")
	var second eventlog.Ack
	require.Eventually(t, func() bool {
		var err error
		second, err = l.Publish(t.Context(), "o", "e", []byte("x"))
		return err == nil && !second.Duplicate
	}, waitTime, 10*time.Millisecond)
	// And a third, where the answer to the second came so late that it was repeated.
	require.Subset(t, sequences(read(t, l, "o", 1, 10, 1<<20)), []uint64{first, second.Sequence}, "a second event to all")
}

func TestDeadLettersThatWereDeletedAreKeptAgain(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	require.NoError(t, s.JetStream().DeleteStream(t.Context(), eventlog.DeadletterStream))
	require.Eventually(t, func() bool {
		return l.DeadLetter(t.Context(), eventlog.DeadLetter{Reason: event.ReasonNotJSON, Token: "o", Body: []byte("x")}) == nil
	}, waitTime, 10*time.Millisecond)
}
