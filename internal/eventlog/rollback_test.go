package eventlog_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
)

func TestWhatTheEvidenceProves(t *testing.T) {
	t.Parallel()
	then := time.Unix(1_000_000, 1)
	mark := eventlog.Mark{Sequence: 10, Stored: then}
	for name, test := range map[string]struct {
		mark     eventlog.Mark
		evidence eventlog.Evidence
		want     eventlog.Standing
	}{
		"the message is there":                           {mark, eventlog.Evidence{Last: 12, At: then}, eventlog.Continues},
		"it is there by another clock's zone":            {mark, eventlog.Evidence{Last: 12, At: then.UTC()}, eventlog.Continues},
		"the leader has not come as far":                 {mark, eventlog.Evidence{Last: 9}, eventlog.Behind},
		"another message stands there":                   {mark, eventlog.Evidence{Last: 12, At: then.Add(1)}, eventlog.RolledBack},
		"it expired, and so did all before it":           {mark, eventlog.Evidence{Last: 12, Later: 11}, eventlog.Continues},
		"it was purged, and nothing came since":          {mark, eventlog.Evidence{Last: 10}, eventlog.Continues},
		"what stands below it was stored later":          {mark, eventlog.Evidence{Last: 12, Later: 7}, eventlog.RolledBack},
		"a checkpoint of a router that noted no time":    {eventlog.Mark{Sequence: 10}, eventlog.Evidence{Last: 10}, eventlog.Continues},
		"the same, and the leader has not come as far":   {eventlog.Mark{Sequence: 10}, eventlog.Evidence{Last: 9}, eventlog.Behind},
		"nothing was ever seen":                          {eventlog.Mark{}, eventlog.Evidence{}, eventlog.Continues},
		"the message that took its place is gone itself": {mark, eventlog.Evidence{Last: 30, Later: 20}, eventlog.Continues},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, test.mark.Judge(test.evidence))
		})
	}
}

// marked publishes an event and returns it as one who follows the log sees it.
func marked(t *testing.T, l *eventlog.Log, token event.Token, id string) eventlog.Mark {
	t.Helper()
	sequence := publish(t, l, token, id, "x")
	page := read(t, l, token, sequence, 1, 1<<20)
	require.Len(t, page.Messages, 1)
	return eventlog.Mark{Sequence: sequence, Stored: page.Messages[0].Stored}
}

// refreshed waits until the leader can be asked again.
func refreshed(t *testing.T, l *eventlog.Log, p event.Partition) {
	t.Helper()
	require.Eventually(t, func() bool { _, err := l.Refresh(t.Context(), p); return err == nil }, waitTime, 10*time.Millisecond)
}

func compare(t *testing.T, l *eventlog.Log, epoch eventlog.Epoch, mark eventlog.Mark) eventlog.Standing {
	t.Helper()
	standing, err := insist(func() (eventlog.Standing, error) {
		_, standing, err := l.Compare(t.Context(), l.Partition("o"), epoch, mark)
		return standing, err
	})
	require.NoError(t, err)
	return standing
}

func TestPartitionThatLostItsOldMessagesContinues(t *testing.T) {
	t.Parallel()
	s, l := setup(t, func(c *eventlog.Config) { c.EventsPerOrchestrator = 3 })
	p := l.Partition("o")
	other := tokensOf(l, p, 1)[0]
	epoch := l.Epoch(p)
	publish(t, l, other, "keeps its place below", "x")
	mark := marked(t, l, "o", "seen")
	require.Equal(t, eventlog.Continues, compare(t, l, epoch, mark))
	for i := range 3 {
		publish(t, l, "o", strconv.Itoa(i), "x")
	}
	require.NotEqual(t, mark.Sequence, read(t, l, "o", mark.Sequence, 1, 1<<20).Messages[0].Sequence, "its orchestrator's limit took it away")
	require.Equal(t, eventlog.Continues, compare(t, l, epoch, mark))
	stream, err := s.JetStream().Stream(t.Context(), event.StreamName(p))
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	require.Equal(t, eventlog.Continues, compare(t, l, epoch, mark))
	require.Equal(t, eventlog.Superseded, compare(t, l, "another", mark))
}

// A leader whose clock is behind that of the one before stores what comes later
// at an earlier time.
func TestLeaderWhoseClockIsBehindIsNoRollback(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	p := l.Partition("o")
	below := marked(t, l, tokensOf(l, p, 1)[0], "by the leader before")
	mark := marked(t, l, "o", "by the next one")
	mark.Stored = below.Stored.Add(-time.Second)
	stream, err := s.JetStream().Stream(t.Context(), event.StreamName(p))
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject(event.Subject(p, "o"))))
	require.Equal(t, eventlog.Continues, compare(t, l, l.Epoch(p), mark))
}

func TestPartitionThatWasRolledBackIsFoundOut(t *testing.T) {
	t.Parallel()
	s, l := setup(t, func(c *eventlog.Config) { c.EventsPerOrchestrator = 5 })
	p := l.Partition("o")
	other := tokensOf(l, p, 1)[0]
	epoch := l.Epoch(p)
	publish(t, l, "o", "before", "x")
	files := s.Copy(t, event.StreamName(p))
	refreshed(t, l, p)
	for i := range 3 {
		publish(t, l, "o", "a"+strconv.Itoa(i), "x")
	}
	mark := marked(t, l, "o", "seen")
	require.Equal(t, eventlog.Continues, compare(t, l, epoch, mark))

	files.RollBack(t)
	refreshed(t, l, p)
	require.Equal(t, epoch, l.Epoch(p), "the stream itself says nothing")
	require.Equal(t, eventlog.Behind, compare(t, l, epoch, mark))
	beyond := mark.Stored.Add(eventlog.ClockLeeway)
	require.Eventually(t, func() bool { return time.Now().After(beyond) }, waitTime, 10*time.Millisecond)
	publish(t, l, other, "takes a place below", "x")
	for i := range 4 {
		publish(t, l, "o", "b"+strconv.Itoa(i), "x")
	}
	require.Equal(t, eventlog.RolledBack, compare(t, l, epoch, mark), "another message stands there")
	for i := range 6 {
		publish(t, l, "o", "c"+strconv.Itoa(i), "x")
	}
	require.Equal(t, eventlog.RolledBack, compare(t, l, epoch, mark), "it is gone as well, and the one below is not")
	for i := range 5 {
		publish(t, l, other, strconv.Itoa(i), "x")
	}
	require.Equal(t, eventlog.Continues, compare(t, l, epoch, mark), "nothing is left that a position up to it could hide")
}

func TestStreamRestoredThroughTheAPIIsFoundOut(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	p := l.Partition("o")
	epoch := l.Epoch(p)
	publish(t, l, "o", "before", "x")
	js := s.JetStream()
	backup := testserver.BackUp(t, js, event.StreamName(p))
	mark := marked(t, l, "o", "seen")
	backup.Restore(t, js)
	// NATS 2.15 does not restore the time of creation, so that the epoch rises by
	// itself.
	require.NotEqual(t, eventlog.Continues, compare(t, l, epoch, mark))
	publish(t, l, "o", "instead", "x")
	require.NotEqual(t, eventlog.Continues, compare(t, l, epoch, mark))
}

// A stream that somebody deleted, and that was created again, and whose backup
// was restored in the end, has a creation time before that of the epoch before.
func TestEpochOfARestoredStreamIsTheNewest(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	p := l.Partition("o")
	js := s.JetStream()
	publish(t, l, "o", "e", "x")
	files := s.Copy(t, event.StreamName(p))
	first := l.Epoch(p)
	refreshed(t, l, p)
	require.Eventually(t, js.Conn().IsConnected, waitTime, time.Millisecond, "a connection of its own is back, too")
	require.NoError(t, js.DeleteStream(t.Context(), event.StreamName(p)))
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: event.StreamName(p), Subjects: []string{event.Subject(p, "*")}, AllowDirect: true})
	require.NoError(t, err)
	anew, err := insist(func() (eventlog.State, error) { return l.Refresh(t.Context(), p) })
	require.NoError(t, err)
	require.True(t, anew.Epoch.Newer(first))
	files.RollBack(t)
	refreshed(t, l, p)
	restored := l.Epoch(p)
	require.True(t, restored.Newer(anew.Epoch))
	require.False(t, anew.Epoch.Newer(restored))
	require.False(t, restored.Newer(restored))
	require.Less(t, string(restored), string(anew.Epoch), "its text does not tell")
}

// TestEpochsOutliveARollbackOfTheirBucket: the same backup restored twice must
// not lead to the same epoch twice.
func TestEpochsOutliveARollbackOfTheirBucket(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	p := l.Partition("o")
	files := s.Copy(t)
	raise := func() bool { _, err := l.RaiseEpoch(t.Context(), p, l.Epoch(p)); return err == nil }
	seen := map[eventlog.Epoch]bool{}
	for range 3 {
		epoch := l.Epoch(p)
		require.False(t, seen[epoch])
		seen[epoch] = true
		require.Eventually(t, raise, waitTime, 10*time.Millisecond)
		files.RollBack(t)
	}
	require.Eventually(t, raise, waitTime, 10*time.Millisecond)
	require.Equal(t, l.Epoch(p), open(t, s.JetStream(), config()).Epoch(p), "whoever comes learns of it")
}

// What docs/runbook.md tells operators to do after they have put everything
// back.
func TestEpochThatWasDeletedByHandIsANewOne(t *testing.T) {
	t.Parallel()
	s, l := setup(t)
	js := s.JetStream()
	kv, err := js.KeyValue(t.Context(), eventlog.ClusterBucket)
	require.NoError(t, err)
	before := l.Epoch(0)
	require.NoError(t, kv.Delete(t.Context(), "epoch.0"))
	require.Eventually(t, func() bool { return time.Now().Unix() > int64(counter(t, before)) }, waitTime, 10*time.Millisecond)
	require.True(t, open(t, js, config()).Epoch(0).Newer(before))
}
