package revocation

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

func (l *List) isLoaded() bool {
	select {
	case <-l.loaded:
		return true
	default:
		return false
	}
}

// Regression: an edge that asked a replica that lagged let in whom that had not heard
// of, until it asked again.
func TestAReplicaThatLagsIsNotAllThatAnEdgeBeginsWith(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t).JetStream()
	bucket := newBucket(t, js)
	put(t, bucket, "token.old", time.Hour)
	put(t, bucket, eve, time.Hour)
	l := NewList(js, func() {}, nil, slog.New(slog.DiscardHandler))
	began, err := l.ask(t.Context())
	require.NoError(t, err)
	read := func(upTo uint64) *reading {
		r := &reading{entries: map[Key]Entry{}, now: time.Now()}
		require.NoError(t, l.read(t.Context(), 1, func(c change) {
			if c.revision <= upTo {
				r.take(c)
			}
		}))
		return r
	}
	require.ErrorContains(t, l.begin(t.Context(), read(1), began), "lags behind")
	require.False(t, l.isLoaded())
	require.NoError(t, l.begin(t.Context(), read(2), began))
	require.True(t, l.isLoaded())
	_, _, revoked := l.Revokes(time.Now(), eve)
	require.True(t, revoked)
}

// The newest revisions of a bucket need not stand in it: they may have been purged.
func TestABucketWithoutItsNewestRevisionIsRead(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t).JetStream()
	bucket := newBucket(t, js)
	put(t, bucket, eve, time.Hour)
	put(t, bucket, "token.new", time.Hour)
	purge(t, js, jetstream.WithPurgeSubject(subjects+"token.new"))
	f := follow(t, js)
	<-f.Loaded()
	require.True(t, f.revokes(eve))
	require.False(t, f.revokes("token.new"))
}

func purge(t *testing.T, js jetstream.JetStream, options ...jetstream.StreamPurgeOpt) {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context(), options...))
}

// Whoever empties the bucket lets nobody in whom this edge knows.
func TestWhatIsKnownStaysRevokedWhenTheBucketIsEmptied(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	js := server.JetStream()
	bucket := newBucket(t, js)
	put(t, bucket, eve, time.Hour)
	f := follow(t, js)
	<-f.Loaded()
	purge(t, js)
	server.Shutdown() // so that the whole bucket is read again
	f.eventually(f.says(false, "1 known stay revoked"))
	server.Start()
	f.eventually(f.says(true, "1 revoked"))
	require.True(t, f.revokes(eve))
	put(t, bucket, "token.new", time.Hour)
	f.eventually(func() bool { return f.revokes("token.new") })
	require.True(t, f.revokes(eve))
}

// A bucket that is made anew between two looks may have as many revisions as the
// other had, and says something else.
func TestABucketThatWasMadeAnewIsNoticedWhateverItsRevisions(t *testing.T) {
	t.Parallel()
	js := testserver.NATS(t).JetStream()
	put(t, newBucket(t, js), "token.old", time.Hour)
	f := follow(t, js, func(l *List) { l.pollInterval = time.Hour })
	<-f.Loaded()
	f.mu.Lock()
	created := f.created
	f.mu.Unlock()
	require.NoError(t, js.DeleteKeyValue(t.Context(), Bucket))
	bucket := newBucket(t, js)
	put(t, bucket, eve, time.Hour)
	put(t, bucket, "token.new", time.Hour)
	require.ErrorContains(t, f.poll(t.Context(), created), "made or rolled back")
}

// Regression: a clock that was set right before entries were looked through for the
// first time left out for ever what had ended by the wrong one, as on a machine that
// has just been started; and so did one that was wrong between two such looks.
func TestAClockThatIsSetRightSoonLetsNobodyIn(t *testing.T) {
	t.Parallel()
	const ahead = 2 * time.Hour
	t.Run("after what stands in the bucket was read", func(t *testing.T) {
		t.Parallel()
		js := testserver.NATS(t).JetStream()
		put(t, newBucket(t, js), eve, time.Hour)
		var right atomic.Bool
		f := follow(t, js, func(l *List) {
			l.sweepInterval = 10 * time.Millisecond
			l.clock = func() time.Time {
				if right.Load() {
					return time.Now()
				}
				return time.Now().Add(ahead)
			}
			told := l.changed
			l.changed = func() { right.Store(true); told() } // the bucket has been read
		})
		f.eventually(func() bool { return f.revokes(eve) })
	})
	t.Run("after a change was", func(t *testing.T) {
		t.Parallel()
		l := NewList(testserver.NATS(t).JetStream(), func() {}, nil, slog.New(slog.DiscardHandler))
		now := time.Now()
		require.False(t, l.sweep(now))
		l.clock = func() time.Time { return now.Add(ahead) }
		l.take(change{key: eve, revision: 1, written: now, value: Entry{Until: now.Add(time.Hour)}.Encode()})
		require.False(t, l.Has(eve), "it has ended, by that clock")
		require.True(t, l.sweep(now.Add(time.Minute)), "so all is read again")
		require.False(t, l.sweep(now.Add(2*time.Minute)))
		require.NotContains(t, l.latest.String(), " m=", "what counts is what the clock says, and not how much time has passed")
	})
}
