package eventlog_test

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// run runs the log for the test and returns the epochs that it tells of.
func run(t *testing.T, l *eventlog.Log) <-chan eventlog.Epoch {
	t.Helper()
	told := make(chan eventlog.Epoch, 100)
	l.OnEpoch(func(p event.Partition, epoch eventlog.Epoch) {
		if p == 0 {
			told <- epoch
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return told
}

func TestEpochOfAStreamCreatedAnew(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	other := open(t, s.JetStream(), config())
	told, toldOther := run(t, l), run(t, other)
	token := tokensOf(l, 0, 1)[0]
	last := publish(t, l, token, "e", "x")
	refresh := func(l *eventlog.Log) eventlog.State {
		state, err := insist(func() (eventlog.State, error) { return l.Refresh(t.Context(), 0) })
		require.NoError(t, err)
		return state
	}
	state := refresh(l)
	require.Equal(t, l.Epoch(0), state.Epoch)
	require.EqualValues(t, 1, state.First)
	require.Equal(t, last, state.Last)

	require.NoError(t, s.JetStream().DeleteStream(t.Context(), event.StreamName(0)))
	_, err := l.LastSequences(t.Context(), 0, []event.Token{token})
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
	_, err = l.Refresh(t.Context(), 0)
	require.ErrorIs(t, err, eventlog.ErrUnavailable, "what is created while a server still deletes may be broken")
	anew := refresh(l)
	require.Zero(t, anew.Last)
	require.Greater(t, string(anew.Epoch), string(state.Epoch))
	require.Equal(t, anew.Epoch, <-told)
	require.Equal(t, anew.Epoch, <-toldOther)
	require.Equal(t, anew.Epoch, other.Epoch(0))

	require.Equal(t, anew, refresh(other), "a second node must not begin a third epoch")
	require.Equal(t, []eventlog.Last{{UpTo: 1}}, lastSequences(t, l, 0, token))
}

func TestRaiseEpochOnlyOnce(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	other := open(t, s.JetStream(), config())
	told := run(t, other)
	seen := l.Epoch(0)
	raised, err := l.RaiseEpoch(t.Context(), 0, seen)
	require.NoError(t, err)
	require.NotEqual(t, seen, raised)
	require.Equal(t, raised, l.Epoch(0))
	same, err := other.RaiseEpoch(t.Context(), 0, seen)
	require.NoError(t, err)
	require.Equal(t, raised, same, "whoever is late learns the epoch and does not raise it again")
	require.Equal(t, raised, <-told)
	require.Equal(t, raised, open(t, s.JetStream(), config()).Epoch(0))
	_, err = l.RaiseEpoch(t.Context(), 0, "")
	require.Error(t, err)
}

// TestEpochOutlivesItsBucket: with the bucket lost, the counter must not start
// again from where it was.
func TestEpochOutlivesItsBucket(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	js := s.JetStream()
	require.NoError(t, js.DeleteKeyValue(t.Context(), eventlog.ClusterBucket))
	before := l.Epoch(0)
	// The first counter is the time in seconds: wait for the next.
	require.Eventually(t, func() bool { return time.Now().Unix() > int64(counter(t, before)) }, waitTime, 10*time.Millisecond)
	require.Greater(t, string(open(t, js, config()).Epoch(0)), string(before))
}

func counter(t *testing.T, epoch eventlog.Epoch) uint64 {
	t.Helper()
	_, hex, _ := strings.Cut(string(epoch), ".")
	n, err := strconv.ParseUint(hex, 16, 64)
	require.NoError(t, err)
	return n
}

// A node that runs while all of JetStream is lost creates all of it again: else
// the log would take events, and nobody would be sent them.
// Reports: seangalliher/ProbOS#354.
func TestLogThatIsLostAsAWholeIsCreatedAnewByWhoRuns(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	told := run(t, l)
	before := l.Epoch(0)
	js := s.JetStream()
	for name := range js.StreamNames(t.Context()).Name() {
		require.NoError(t, js.DeleteStream(t.Context(), name))
	}
	for p := range event.Partition(l.Config().Partitions) {
		require.Eventually(t, func() bool {
			_, err := l.Refresh(t.Context(), p)
			return err == nil
		}, waitTime, 10*time.Millisecond)
		_, err := js.KeyValue(t.Context(), eventlog.CursorBucket(p))
		require.NoError(t, err)
	}
	_, err := js.Stream(t.Context(), eventlog.DeadletterStream)
	require.NoError(t, err)
	_, err = js.KeyValue(t.Context(), revocation.Bucket)
	require.NoError(t, err)
	require.True(t, l.Epoch(0).Newer(before))
	require.Equal(t, l.Epoch(0), <-told)
	epochs, err := eventlog.Epochs(t.Context(), js)
	require.NoError(t, err, "the number of partitions is there again, too")
	require.Equal(t, []eventlog.Epoch{l.Epoch(0), l.Epoch(1)}, epochs)
	require.NoError(t, l.SaveCheckpoint(t.Context(), 0, eventlog.Checkpoint{Epoch: l.Epoch(0), Sequence: 1}))
}

func TestCheckpoints(t *testing.T) {
	t.Parallel()
	_, l := setup(t)
	_, ok, err := l.LoadCheckpoint(t.Context(), 1)
	require.NoError(t, err)
	require.False(t, ok)
	want := eventlog.Checkpoint{Epoch: l.Epoch(1), Sequence: 42}
	require.NoError(t, l.SaveCheckpoint(t.Context(), 1, want))
	got, ok, err := l.LoadCheckpoint(t.Context(), 1)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, want, got)
}

// Routers of two versions read each other's checkpoints, and those of before.
func TestTheFormatOfCheckpointsStays(t *testing.T) {
	t.Parallel()
	stored := time.Date(2026, 11, 22, 8, 30, 0, 5, time.UTC)
	full := eventlog.Checkpoint{Epoch: "184f5b2c91e00000.00000003", Sequence: 42, Seen: eventlog.Mark{Sequence: 43, Stored: stored}}
	written, err := json.Marshal(full)
	require.NoError(t, err)
	require.Equal(t, `{"epoch":"184f5b2c91e00000.00000003","sequence":42,"seen":{"sequence":43,"stored":"2026-11-22T08:30:00.000000005Z"}}`, string(written))
	for text, want := range map[string]eventlog.Checkpoint{
		string(written): full,
		`{"epoch":"184f5b2c91e00000.00000003","sequence":42}`:   {Epoch: "184f5b2c91e00000.00000003", Sequence: 42},
		`{"epoch":"184f5b2c91e00000.00000003","later":{"a":1}}`: {Epoch: "184f5b2c91e00000.00000003"},
	} {
		var got eventlog.Checkpoint
		require.NoError(t, json.Unmarshal([]byte(text), &got))
		require.Equal(t, want, got, text)
	}
}
