package eventlog_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestDuplicatesAreStoredOncePerOrchestrator(t *testing.T) {
	t.Parallel()
	_, l := setup(t)
	tokens := tokensOf(l, 0, 2)
	first, err := stored(t, l, tokens[0], "event-1", []byte("a"))
	require.NoError(t, err)
	require.False(t, first.Duplicate)
	again, err := stored(t, l, tokens[0], "event-1", []byte("a"))
	require.NoError(t, err)
	require.Equal(t, eventlog.Ack{Partition: 0, Sequence: first.Sequence, Duplicate: true}, again)
	other, err := stored(t, l, tokens[1], "event-1", []byte("b"))
	require.NoError(t, err)
	require.False(t, other.Duplicate, "another orchestrator's event of the same id must not be suppressed")

	require.Len(t, read(t, l, tokens[0], 1, 10, 1<<20).Messages, 1)
	require.Len(t, read(t, l, tokens[1], 1, 10, 1<<20).Messages, 1)
}

func TestLimitDropsTheOldestOfItsOwnOrchestratorOnly(t *testing.T) {
	t.Parallel()
	_, l := setup(t, func(c *eventlog.Config) { c.EventsPerOrchestrator = 5 })
	tokens := tokensOf(l, 0, 2)
	waiting := publish(t, l, tokens[1], "waits", "x")
	var last []uint64
	for i := range 20 {
		last = append(last, publish(t, l, tokens[0], strconv.Itoa(i), "x"))
	}
	require.Equal(t, last[15:], sequences(read(t, l, tokens[0], 1, 100, 1<<20)))
	require.Equal(t, []uint64{waiting}, sequences(read(t, l, tokens[1], 1, 100, 1<<20)))
}

func TestFullPartitionRefusesAndDropsNothing(t *testing.T) {
	t.Parallel()
	_, l := setup(t, func(c *eventlog.Config) {
		c.LogMaxBytes, c.MaxEventBytes = settings.ByteSize(256<<10), settings.ByteSize(64<<10)
	})
	tokens := tokensOf(l, 0, 2)
	waiting := publish(t, l, tokens[1], "waits", "x")
	body := []byte(strings.Repeat("x", 30<<10))
	var err error
	for i := 0; err == nil && i < 100; i++ {
		_, err = untilFull(t, l, tokens[0], strconv.Itoa(i), body)
	}
	require.ErrorIs(t, err, eventlog.ErrLogFull)
	require.True(t, eventlog.Retryable(err))
	require.Equal(t, []uint64{waiting}, sequences(read(t, l, tokens[1], 1, 100, 1<<20)))
}

func TestTooLargeIsNotRetryable(t *testing.T) {
	t.Parallel()
	_, l := setup(t)
	_, err := l.Publish(t.Context(), "o", "e", make([]byte, 2<<20))
	require.ErrorIs(t, err, eventlog.ErrTooLarge)
	require.False(t, eventlog.Retryable(err))
}

func TestPublishWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	publish(t, l, "o", "first", "x")
	s.Shutdown()
	_, err := l.Publish(t.Context(), "o", "second", []byte("x"))
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
	require.True(t, eventlog.Retryable(err))
	s.Start()
	require.Eventually(t, func() bool {
		_, err := l.Publish(t.Context(), "o", "second", []byte("x"))
		return err == nil
	}, waitTime, 10*time.Millisecond)
	require.Len(t, read(t, l, "o", 1, 10, 1<<20).Messages, 2)
}

func TestPublishAsync(t *testing.T) {
	t.Parallel()
	_, l := setup(t)
	const events = 2000
	type place struct {
		event.Partition
		sequence uint64
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		acked = map[place]bool{}
	)
	var publish func(token event.Token)
	publish = func(token event.Token) {
		l.PublishAsync(t.Context(), token, "e", []byte("x"), func(ack eventlog.Ack, err error) {
			if eventlog.Retryable(err) {
				publish(token)
				return
			}
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				acked[place{ack.Partition, ack.Sequence}] = true
			}
		})
	}
	wg.Add(events)
	for i := range events {
		publish(event.Token("o-" + strconv.Itoa(i)))
	}
	wg.Wait()
	require.Len(t, acked, events)
}

func TestSubjectMappingAgreesWithThePartitionFunction(t *testing.T) {
	t.Parallel()
	s, l := setup(t, func(c *eventlog.Config) { c.Partitions = 5 })
	require.NoError(t, s.Server().GlobalAccount().AddMapping(eventlog.SubjectMapping(5)))
	js := s.JetStream()
	for i := range 50 {
		token := event.TokenOf("orchestrator " + strconv.Itoa(i))
		ack, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "daemon.events." + string(token), Data: []byte("x")})
		require.NoError(t, err)
		require.Equal(t, event.StreamName(l.Partition(token)), ack.Stream)
		require.Equal(t, []uint64{ack.Sequence}, sequences(read(t, l, token, 1, 10, 1<<20)))
	}
}

// Regression: two bridges publish the same event, and in a cluster of servers
// the second may be told that the first is not stored yet. A bridge took that
// for a refusal, and after five of them, in three seconds without a majority,
// put the event into the dead letters.
// Reports: nats-io/nats-server#6415.
func TestEventThatIsStillBeingStoredIsRetryable(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	js := s.JetStream()
	p := l.Partition("o")
	require.NoError(t, js.DeleteStream(t.Context(), event.StreamName(p)))
	answer := `{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"},"stream":"` + event.StreamName(p) + `","seq":0}`
	testserver.Answer(t, js.Conn(), event.Subject(p, "*"), func(m *nats.Msg) { _ = m.Respond([]byte(answer)) })
	_, err := l.Publish(t.Context(), "o", "e", []byte("x"))
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
	require.True(t, eventlog.Retryable(err))
}
