package eventlog_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func openUnresolved(t *testing.T, l *eventlog.Log) *eventlog.Unresolved {
	t.Helper()
	u, err := l.OpenUnresolved(t.Context(), func(string) {})
	require.NoError(t, err)
	return u
}

func keep(t *testing.T, u *eventlog.Unresolved, addressee event.Token, id string) (duplicate bool) {
	t.Helper()
	duplicate, err := insist(func() (bool, error) { return u.Keep(t.Context(), addressee, id, []byte(id)) })
	require.NoError(t, err)
	return duplicate
}

// rest is what waits for an addressee.
func rest(t *testing.T, u *eventlog.Unresolved, addressee event.Token) (ids []string) {
	t.Helper()
	for from := uint64(1); ; {
		m, ok, err := u.Next(t.Context(), addressee, from)
		require.NoError(t, err)
		if !ok {
			return ids
		}
		ids = append(ids, string(m.Body))
		from = m.Sequence + 1
	}
}

func TestUnresolvedEventsAreKeptOnceAndInOrder(t *testing.T) {
	t.Parallel()
	_, l := setup(t)
	u := openUnresolved(t, l)
	require.False(t, keep(t, u, "a", "1"))
	require.False(t, keep(t, u, "b", "1"), "the same id of another addressee is another event")
	require.False(t, keep(t, u, "a", "2"))
	require.False(t, keep(t, u, "a", "3"))
	require.True(t, keep(t, u, "a", "1"))
	require.Equal(t, []string{"1", "2", "3"}, rest(t, u, "a"))
	b, err := u.Backlog(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 4, b.Events)
	require.Equal(t, map[event.Token]uint64{"a": 3, "b": 1}, b.Addressees)
	require.WithinRange(t, b.Oldest, time.Now().Add(-waitTime), time.Now())

	second, _, err := u.Next(t.Context(), "a", 2)
	require.NoError(t, err)
	require.NoError(t, u.Remove(t.Context(), "a", second.Sequence))
	require.Equal(t, []string{"3"}, rest(t, u, "a"))
	require.Equal(t, []string{"1"}, rest(t, u, "b"), "nobody else's are removed")
	require.True(t, keep(t, u, "a", "2"), "what is in the log by now does not come back")
}

func TestOfAnAddresseeTheNewestUnresolvedEventsAreKept(t *testing.T) {
	t.Parallel()
	_, l := setup(t, func(c *eventlog.Config) { c.EventsPerOrchestrator = 3 })
	u := openUnresolved(t, l)
	for n := range 5 {
		keep(t, u, "a", fmt.Sprint(n))
	}
	require.Equal(t, []string{"2", "3", "4"}, rest(t, u, "a"))
}

func TestAFullStreamOfUnresolvedEventsRefuses(t *testing.T) {
	t.Parallel()
	_, l := setup(t, func(c *eventlog.Config) { c.LogMaxBytes = 1 << 20 })
	u := openUnresolved(t, l)
	var err error
	for n := 0; (err == nil || errors.Is(err, eventlog.ErrUnavailable)) && n < 100; {
		if _, err = u.Keep(t.Context(), "a", fmt.Sprint(n), make([]byte, 100_000)); err == nil {
			n++
		}
	}
	require.ErrorIs(t, err, eventlog.ErrLogFull)
	require.Equal(t, 10, len(rest(t, u, "a")))
}

// TestUnresolvedEventsTakeTheRoomThatThereIs: NATS reserves what a stream may
// become, and the partitions have taken most.
func TestUnresolvedEventsTakeTheRoomThatThereIs(t *testing.T) {
	t.Parallel()
	s := testserver.NATS(t, func(o *server.Options) { o.JetStreamMaxStore = 1 << 30 })
	l := open(t, s.JetStream(), config(func(c *eventlog.Config) { c.LogMaxBytes = 232 << 20 }))
	u := openUnresolved(t, l)
	require.False(t, keep(t, u, "a", "1"))
	stream, err := s.JetStream().Stream(t.Context(), eventlog.UnresolvedStream)
	require.NoError(t, err)
	require.EqualValues(t, 58<<20, stream.CachedInfo().Config.MaxBytes)
	openUnresolved(t, open(t, s.JetStream(), config(func(c *eventlog.Config) { c.LogMaxBytes = 232 << 20 })))
}

// TestAStreamOfUnresolvedEventsThatWasDeletedComesBack: whoever keeps an event
// tries again until it is there.
func TestAStreamOfUnresolvedEventsThatWasDeletedComesBack(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	u := openUnresolved(t, l)
	require.NoError(t, s.JetStream().DeleteStream(t.Context(), eventlog.UnresolvedStream))
	require.Eventually(t, func() bool {
		_, err := u.Keep(t.Context(), "a", "1", []byte("1"))
		return err == nil
	}, waitTime, 100*time.Millisecond)
	require.Equal(t, []string{"1"}, rest(t, u, "a"))
}
